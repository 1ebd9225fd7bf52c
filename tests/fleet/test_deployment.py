"""Files for each target: they pass their schema, say the placement, and a typo does not pass."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet import Placement, Server, save_placement
from loratwin.fleet.deployment import check_document, deployment
from loratwin.fleet.targets import TARGETS
from loratwin.records import EngineConfig
from tests.cli.program import loratwin

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


def placement() -> Placement:
    """Two servers with an adapter each, and a hot one on both."""
    config = EngineConfig(max_loras=7, max_lora_rank=16, max_num_seqs=96)
    servers = [Server(f"gpu-{k}", PROFILE, config) for k in range(2)]
    shares = {"sales": {"gpu-0": 1.0}, "legal": {"gpu-1": 1.0}, "hot": {"gpu-0": 0.5, "gpu-1": 0.5}}
    return Placement.of(servers, {**shares, "base": {"gpu-0": 1.0}}, base="base")


def texts(data: Any) -> list[str]:
    """All words in nested data, keys left out."""
    if isinstance(data, dict):
        return [text for value in data.values() for text in texts(value)]
    if isinstance(data, list):
        return [text for value in data for text in texts(value)]
    return [str(data)]


@pytest.mark.parametrize("target", TARGETS)
def test_files_pass_their_schema_and_survive_yaml(target: str) -> None:
    for name, documents in deployment(placement(), target, "v0.8.5").items():
        again = list(yaml.safe_load_all(yaml.safe_dump_all(documents, sort_keys=False)))
        assert again == documents
        for document in again:
            check_document(document, target, name)


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "ray"])  # loads what it is asked for
def test_each_adapter_is_where_the_placement_has_it(target: str) -> None:
    """By shard: the hot one twice, or once with a label that both servers bear."""
    files = deployment(placement(), target)
    paths = Counter(
        name
        for text in texts(list(files.values()))
        for name in ("sales", "legal", "hot")
        if text.endswith(f"adapters/{name}")
    )
    assert paths == ({"sales": 1, "legal": 1, "hot": 1} if target == "aibrix" else {"sales": 1, "legal": 1, "hot": 2})


def test_aibrix_labels_select_the_pods_of_the_placement() -> None:
    files = deployment(placement(), "aibrix")
    labels = {name: files[f"{name}.yaml"][0]["spec"]["template"]["metadata"]["labels"] for name in ("gpu-0", "gpu-1")}
    for adapter in files["adapters.yaml"]:
        wanted = adapter["spec"]["podSelector"]["matchLabels"].items()
        found = [name for name, known in labels.items() if wanted <= known.items()]
        assert found == {"sales": ["gpu-0"], "legal": ["gpu-1"], "hot": ["gpu-0", "gpu-1"]}[adapter["metadata"]["name"]]


@pytest.mark.parametrize("target", TARGETS)
def test_slots_are_said(target: str) -> None:
    """Wherever the format puts it: in words, or as a value."""
    words = " ".join(texts(list(deployment(placement(), target).values())))
    first = deployment(placement(), target)
    document = next(iter(first.values()))[0]
    if target == "kserve":
        assert document["spec"]["model"]["lora"]["maxAdapters"] == 7
    elif target == "production-stack":
        assert document["servingEngineSpec"]["modelSpec"][0]["vllmConfig"]["maxLoras"] == 7
    elif target == "ray":
        assert document["applications"][0]["args"]["llm_configs"][0]["engine_kwargs"]["max_loras"] == 7
    else:
        assert "--max-loras 7" in words


def misspelt(data: Any) -> list[Any]:
    """Copies of a document, each with one of its keys misspelt; free keys (labels, options) stay as they are."""
    found = []

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        if isinstance(node, list):
            for i, value in enumerate(node):
                walk(value, (*path, i))
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(value, (*path, key))
                if key != "app" and not (path and path[-1] in FREE):
                    found.append((*path, key))

    walk(data, ())
    copies = []
    for *path, key in found:
        wrong = copy.deepcopy(data)
        node = wrong
        for step in path:
            node = node[step]
        node[f"{key}x"] = node.pop(key)
        copies.append(wrong)
    return copies


FREE = {"labels", "matchLabels", "annotations", "engine_kwargs", "services"}


@pytest.mark.parametrize("target", TARGETS)
def test_typos_are_refused(target: str) -> None:
    num = 0
    for name, documents in deployment(placement(), target).items():
        for document in documents:
            for wrong in misspelt(document):
                kind = document.get("kind", target)
                with pytest.raises((InputError, UnknownNameError), match=rf"{name}|kind"):
                    check_document(wrong, kind, name)
                num += 1
    assert num > 5


def test_what_cannot_be_deployed_is_one_clear_line() -> None:
    with pytest.raises(UnknownNameError, match="unknown target 'kubernets'. Did you mean 'kubernetes'"):
        deployment(placement(), "kubernets")
    odd = Placement.of([Server("GPU_0", PROFILE, EngineConfig(max_loras=4))], {"a": {"GPU_0": 1.0}})
    with pytest.raises(InputError, match="server 'GPU_0': a name to deploy is of a-z, 0-9 and -"):
        deployment(odd, "compose")


def test_the_command_writes_them(tmp_path: Path) -> None:
    save_placement(placement(), tmp_path / "placement.json")
    done = loratwin("fleet", "deploy", "placement.json", "--to", "compose", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text())["services"]
    assert list(services) == ["gpu-0", "gpu-1"]
    assert services["gpu-0"]["image"].endswith(":v0.8.5")  # the version that was planned
    assert services["gpu-1"]["command"][-2:] == ["legal=/adapters/legal", "hot=/adapters/hot"]
