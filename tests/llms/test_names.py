"""What an LLM is called, and sizes that none has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, find_llm, names_llm, shapes_from_config
from loratwin.tables import read_yaml_table

LLAMA = find_llm("llama-3.1-8b-instruct")
TINY = LLAMA.model_copy(update={"name": "tiny", "repository": None, "num_layers": 2})


@pytest.mark.parametrize(
    ("name", "llm", "same"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", LLAMA, False),
        ("/their/disk/Qwen2.5-7B-Instruct/", LLAMA, False),
        ("LLAMA-3.2-1B-Instruct", LLAMA, False),
        ("prod", LLAMA, False),  # a name to serve by, perhaps: it is for the user to know
        ("meta-llama/Llama-3.1-8B-Instruct", LLAMA, True),
        ("nobody/Meta-LLAMA-3.1-8b-instruct-AWQ", LLAMA, True),
        ("deepseek-r1-distill-llama-8b", LLAMA, True),  # trained further: of the same sizes
        ("/their/disk/checkpoint-500", LLAMA, None),
        ("./checkpoint-500", LLAMA, None),
        ("", LLAMA, None),
        ("llama-3.1-8b-instruct", TINY, False),
        ("models/Tiny", TINY, True),
        ("prod", TINY, None),
        ("llama-3.1-8b-instruct", LLAMA.model_copy(update={"name": "checkpoint-500", "repository": None}), True),
    ],
)
def test_a_name_is_of_an_llm_or_not_or_it_is_unknown(name: str, llm: LlmShapes, same: bool | None) -> None:
    assert names_llm(name, llm) is same


CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256,
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "most"),
    [("num_hidden_layers", 10_000), *((key, 10**8) for key in CONFIG if key[-4:] in ("size", "_dim"))],
)
def test_sizes_that_no_llm_has_are_refused_before_they_are_computed_with(key: str, most: int, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**CONFIG, key: most}))
    shapes_from_config(file)
    file.write_text(json.dumps({**CONFIG, key: most + 1}))
    with pytest.raises(InputError) as refused:
        shapes_from_config(file)
    assert str(refused.value) == f"{file}: {key} = {most + 1}, but no LLM has more than {most:,}"


@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "max_position_embeddings"])
def test_no_other_number_is_without_end(key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, key: 10**30}))
    with pytest.raises(InputError, match=f"{key} = 10+, but no LLM has more than 100,000,000"):
        shapes_from_config(tmp_path)


@pytest.mark.parametrize(
    ("asked", "row", "repository"),
    [
        ("llama-3.1-8b-instruct", "llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B"),
        ("unsloth/Llama-3.2-1B-Instruct", "llama-3.2-1b-instruct", "unsloth/Llama-3.2-1B-Instruct"),
        ("qwen2.5-7b", "qwen-2.5-7b-instruct", "Qwen/Qwen2.5-7B"),
        ("HuggingFaceH4/zephyr-7b-beta", "mistral-7b-v0.1", "HuggingFaceH4/zephyr-7b-beta"),
        ("THUDM/GLM-4-9B-0414", "glm-4-9b-0414", "THUDM/GLM-4-9B-0414"),
    ],
)
def test_an_llm_has_many_names_and_is_served_by_the_one_given(asked: str, row: str, repository: str) -> None:
    llm, known = find_llm(asked), find_llm(row)
    assert llm.repository == repository
    assert llm.num_parameters == known.num_parameters and llm.kinds == known.kinds


def test_repositories_of_the_same_sizes_may_have_other_contexts() -> None:
    lengths = [find_llm(f"Qwen/Qwen2.5-7B{end}").max_model_len for end in ("", "-Instruct", "-Instruct-1M")]
    assert lengths == [131_072, 32_768, 1_010_000]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "bnb-4bit"),
        ("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "int4-g128-z"),
        ("TheBloke/Llama-2-7B-GPTQ", "int4-g128"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "int4-g128"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "int8-g128"),
        ("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8", "fp8-channel"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "fp8-channel"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "int4-g128"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "int8"),
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "nvfp4"),
        ("llama-3.1-8b-instruct-awq", "int4-g128-z"),
    ],
)
def test_what_a_name_ends_with_says_how_the_weights_are_kept(asked: str, numbers: str) -> None:
    llm = find_llm(asked)
    assert {linear.numbers for kind in llm.kinds for linear in kind.linears} == {numbers}
    assert llm.quantization and llm.given == asked and llm.kv_bytes_per_token == find_llm(llm.name).kv_bytes_per_token


def test_a_quantized_copy_of_what_is_quantized_has_the_copys_numbers() -> None:
    numbers = {linear.numbers for kind in find_llm("unsloth/gpt-oss-20b-bnb-4bit").kinds for linear in kind.linears}
    assert numbers == {"bnb-4bit", "bfloat16"}, "but for the router"


def test_a_note_is_left_out_but_for_the_vocabulary() -> None:
    """As public tables write it: Mistral v0.2 has 32,000 words, v0.3 has 32,768."""
    assert find_llm("mistral-7b-instruct-v0.3 (vocabulary 32000)").vocab_size == 32_000
    assert find_llm("llama-3.1-8b-instruct (inferred)") == LLAMA


def test_a_folder_of_the_cache_is_the_repository_that_it_is_of(tmp_path: Path) -> None:
    path = tmp_path / "hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f249a16976918f6564b8830bc894c89659"
    absent = find_llm(str(path))
    assert (absent.name, absent.repository, absent.given) == ("llama-3.1-8b", "meta-llama/Llama-3.1-8B", str(path))
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    assert find_llm(str(path)) == absent.model_copy(update={"max_model_len": 2048})


def test_a_folder_is_served_as_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "My-Llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for path in (folder, folder / "config.json"):
        assert (find_llm(str(path)).name, find_llm(str(path)).given) == ("my-llama", str(folder))


def test_only_the_same_family_is_suggested() -> None:
    with pytest.raises(InputError, match=r"unknown LLM 'qwen-2.5-8b'. Did you mean 'qwen-.*Known: qwen") as error:
        find_llm("qwen-2.5-8b")
    assert "llama" not in str(error.value)
    with pytest.raises(InputError, match="unknown LLM 'grok-2'. Known are LLMs of these families: apertus") as error:
        find_llm("xai-org/grok-2")
    assert "Did you mean" not in str(error.value)


def test_a_folder_that_is_not_there_is_no_name() -> None:
    with pytest.raises(InputError, match="unknown LLM"):
        find_llm("/nowhere/at/all/llama-3.1-8b-instruct")


def test_no_two_llms_of_the_table_have_one_name() -> None:
    table = read_yaml_table("loratwin.llms.tables", "llms.yaml")
    names = [name for name in table] + [row["repository"].lower() for row in table.values()]
    for row in table.values():
        names += [str(next(iter(each)) if isinstance(each, dict) else each).lower() for each in row.get("also", ())]
    assert len(names) == len(set(names))
    assert len(table) >= 150
