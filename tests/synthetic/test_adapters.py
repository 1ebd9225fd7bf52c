"""Made adapters: PEFT's layout, names and ranks of a workload, going on after an interruption, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import DataError, InputError
from loratwin.llms import LlmShapes, shapes_from_config
from loratwin.synthetic import (
    LINEAR_MODULES,
    NewAdapter,
    NewLlm,
    from_workload,
    lora_modules_args,
    make_adapters,
    make_llm,
    numbered,
    read_adapters,
    read_llm_shapes,
)
from loratwin.workload import draw, load_spec
from tests.cli.program import loratwin
from tests.synthetic.weights import read

LLM = LlmShapes(
    name="tiny",
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    vocab_size=300,
    max_model_len=256,
    lora_on_vocabulary=True,
)
ONE = [NewAdapter("a", 8)]


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    return read(folder / name / "adapter_model.safetensors")


def test_a_folder_begun_under_another_default_version_is_gone_on_with(tmp_path: Path) -> None:
    """Qwen3's vocabulary takes adapters in vLLM from 0.19 on; what is made is the same."""
    make_llm(tmp_path / "llm", NewLlm("qwen3"))
    before, after = (shapes_from_config(tmp_path / "llm", version) for version in ("vllm-0.8.5", "vllm-0.32.0"))
    assert before != after and read_llm_shapes(tmp_path / "llm") == before
    made = make_adapters(tmp_path / "a", read_llm_shapes(tmp_path / "llm"), numbered("a", 2, (8,)))
    assert make_adapters(tmp_path / "a", read_llm_shapes(tmp_path / "llm"), numbered("a", 2, (8,))) == made


def test_shapes_names_and_config_are_those_of_peft(tmp_path: Path) -> None:
    make_adapters(tmp_path, LLM, [NewAdapter("a", 5)])
    found = weights(tmp_path, "a")
    assert len(found) == LLM.num_layers * len(LINEAR_MODULES) * 2
    start = "base_model.model.model.layers"
    assert found[f"{start}.0.self_attn.k_proj.lora_A.weight"].shape == (5, 64)
    assert found[f"{start}.0.self_attn.k_proj.lora_B.weight"].shape == (32, 5)
    assert found[f"{start}.1.mlp.down_proj.lora_A.weight"].shape == (5, 96)
    assert found[f"{start}.1.mlp.down_proj.lora_B.weight"].shape == (64, 5)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["target_modules"]) == ("LORA", 5, list(LINEAR_MODULES))


def test_an_adapter_adds_a_quarter_of_a_layers_output(tmp_path: Path) -> None:
    make_adapters(tmp_path, LLM, [NewAdapter("a", 16)], dtype="float32")
    found = weights(tmp_path, "a")
    start = "base_model.model.model.layers.0.mlp.up_proj"
    product = found[f"{start}.lora_B.weight"] @ found[f"{start}.lora_A.weight"]
    output = np.sqrt(np.mean(product**2) * LLM.hidden_size)  # of an input of size 1
    assert 0.25 / 2 < output < 0.25 * 2


def test_only_the_target_modules_have_weights(tmp_path: Path) -> None:
    make_adapters(tmp_path, LLM, ONE, target_modules=["v_proj", "q_proj"])
    assert {name.split(".")[6] for name in weights(tmp_path, "a")} == {"q_proj", "v_proj"}
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]


def test_an_adapter_depends_on_seed_and_name_alone(tmp_path: Path) -> None:
    make_adapters(tmp_path / "1", LLM, ONE, seed=1)
    make_adapters(tmp_path / "2", LLM, [NewAdapter("b", 8), *ONE], seed=1)
    make_adapters(tmp_path / "3", LLM, ONE, seed=2)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    first = weights(tmp_path / "1", "a")[key]
    assert np.array_equal(first, weights(tmp_path / "2", "a")[key])
    for folder, name in ((tmp_path / "2", "b"), (tmp_path / "3", "a")):
        assert np.mean(first == weights(folder, name)[key]) < 0.1


def test_the_index_is_what_a_server_takes(tmp_path: Path) -> None:
    made = make_adapters(tmp_path, LLM, numbered("t", 3, [8, 16]))
    assert [(name, rank) for name, _, rank in made] == [("t-0", 8), ("t-1", 16), ("t-2", 8)]
    assert made == read_adapters(tmp_path)
    arguments = ["--lora-modules", *(f"t-{i}={tmp_path}/t-{i}" for i in range(3))]
    assert lora_modules_args(tmp_path) == arguments
    assert lora_modules_args(tmp_path, "sglang") == ["--lora-paths", *arguments[1:]]
    assert (tmp_path / "lora-modules.txt").read_text().splitlines() == arguments[1:]


def test_a_path_that_vllm_would_misread_is_json(tmp_path: Path) -> None:
    folder = tmp_path / "x=1,y"
    make_adapters(folder, LLM, ONE)
    assert json.loads(lora_modules_args(folder)[1]) == {"name": "a", "path": str(folder / "a")}


def test_names_and_ranks_of_a_workload() -> None:
    spec = load_spec("example:mixed-ranks")
    adapters = draw(spec).adapters
    assert from_workload(spec) == list(zip(adapters.name, adapters.rank.tolist(), strict=True))


@pytest.mark.parametrize("text", ["", '{"r": ', "[]", "{}", '{"r": 16}'])
def test_a_damaged_config_is_named_and_made_again(text: str, tmp_path: Path) -> None:
    new = numbered("t", 2, [8])
    make_adapters(tmp_path, LLM, new)
    (tmp_path / "t-1" / "adapter_config.json").write_text(text)
    with pytest.raises(DataError, match=r"t-1/adapter_config\.json is damaged, or of another rank than 8; remove"):
        read_adapters(tmp_path)
    shutil.rmtree(tmp_path / "t-1")
    assert len(make_adapters(tmp_path, LLM, new)) == 2


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    new = numbered("t", 3, [8])

    def interrupt(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_adapters(tmp_path, LLM, new, progress=interrupt)
    with pytest.raises(DataError, match="the weights of adapter t-2 are missing; make the adapters again to go on"):
        read_adapters(tmp_path)
    before = (tmp_path / "t-0" / "adapter_model.safetensors").stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    make_adapters(tmp_path, LLM, new, progress=lambda *step: steps.append(step))
    assert (tmp_path / "t-0" / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert len(read_adapters(tmp_path)) == 3
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_other_adapters_are_kept(tmp_path: Path) -> None:
    make_adapters(tmp_path, LLM, ONE)
    with pytest.raises(InputError, match="was made with other options"):
        make_adapters(tmp_path, LLM, [NewAdapter("a", 16)])
    assert read_adapters(tmp_path)[0].rank == 8


NAMES = ["../a", "a/b", "", ".", "..", "-a", ".hidden", "a b", "a=b", "a\n", "ä", "x" * 201, "adapters.json"]


@pytest.mark.parametrize("name", NAMES)
def test_unsafe_names_make_no_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="adapter name"):
        make_adapters(tmp_path / "adapters", LLM, [*ONE, NewAdapter(name, 8)])
    assert not list(tmp_path.iterdir())


REFUSED: list[tuple[Sequence[NewAdapter], dict[str, Any], str]] = [
    ([], {}, "there is no adapter to make"),
    ([NewAdapter("a", 8), NewAdapter("a", 16)], {}, "adapter name 'a' is given twice"),
    ([NewAdapter("a", 0)], {}, "rank 0: must be from 1 to 512"),
    (ONE, {"target_modules": ["q_prj"]}, "unknown target module 'q_prj'. Did you mean 'q_proj'?"),
    (ONE, {"target_modules": []}, "no target module: give some of q_proj"),
    (ONE, {"dtype": "int4"}, "unknown dtype 'int4'"),
]


@pytest.mark.parametrize(("new", "options", "message"), REFUSED)
def test_wrong_input_makes_no_folder(
    new: Sequence[NewAdapter], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        make_adapters(tmp_path / "adapters", LLM, new, **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_before_the_work(tmp_path: Path) -> None:
    wide = LLM.model_copy(update={"hidden_size": 2**17, "num_layers": 100})
    with pytest.raises(InputError, match=r"[0-9.]+ GB are needed, but only [0-9.]+ GB are free there"):
        make_adapters(tmp_path / "adapters", wide, [NewAdapter(f"a{i}", 512) for i in range(1000)])
    assert not list(tmp_path.iterdir())


def test_no_index_is_no_folder_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`loratwin adapters make` writes it"):
        read_adapters(tmp_path)


@pytest.fixture(scope="module")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm") / "tiny"
    make_llm(folder, NewLlm(vocab_size=300, weights=False))
    return folder


def test_300_adapters_by_one_command(llm_folder: Path, tmp_path: Path) -> None:
    done = loratwin(
        "adapters", "make", "ad", "--llm", str(llm_folder), "--count", "300", "--ranks", "4,8", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "making adapters (300)\n")
    assert done.stdout == "ad: 300 adapters; the arguments of --lora-modules are in ad/lora-modules.txt\n"
    made = read_adapters(tmp_path / "ad")
    assert [made[0].name, made[-1].name, made[299].rank] == ["adapter-000", "adapter-299", 8]


def test_adapters_for_a_workload_by_one_command(llm_folder: Path, tmp_path: Path) -> None:
    arguments = ["--llm", str(llm_folder), "--workload", "example:mixed-ranks", "--target-modules", "q_proj, v_proj"]
    done = loratwin("adapters", "make", "ad", *arguments, cwd=tmp_path)
    assert done.returncode == 0
    made = [(name, rank) for name, _, rank in read_adapters(tmp_path / "ad")]
    assert made == [tuple(each) for each in from_workload(load_spec("example:mixed-ranks"))]


COMMANDS = [
    ([], "say how many adapters (--count 300), or which (--workload FILE)"),
    (["--count", "0"], "--count 0: must be at least 1"),
    (["--count", "2", "--ranks", "8,x"], "--ranks '8,x': expected whole numbers, as 16 or 8,16"),
    (["--count", "2", "--ranks", "1000"], "rank 1000: must be from 1 to 512"),
    (["--count", "2", "--name", "a/b"], "--name 'a/b': letters, digits"),
    (["--count", "2", "--workload", "example:mixed-ranks"], "leave out --count, --ranks and --name"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_a_command_that_cannot_be_meant(arguments: list[str], message: str, llm_folder: Path, tmp_path: Path) -> None:
    done = loratwin("adapters", "make", "ad", "--llm", str(llm_folder), *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
