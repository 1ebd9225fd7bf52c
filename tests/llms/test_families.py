"""A config of every family: parameters as its makers publish them, and bytes of a token worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, facts_of, lora_modules, shapes_from_config, speed_unknown
from loratwin.llms.config import shapes_from
from loratwin.llms.families import FAMILIES

KINDS = yaml.safe_load((Path(__file__).parent / "families.yaml").read_text(encoding="utf-8"))
ALL = {name: row for rows in KINDS.values() for name, row in rows.items()}


def read(folder: Path, config: dict[str, Any], engine: str = "vllm-0.25.1") -> LlmShapes:
    (folder / "config.json").write_text(json.dumps(config))
    return shapes_from_config(folder, engine)


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_those_of_the_checkpoint_and_bytes_of_a_token_those_of_its_heads(
    name: str, tmp_path: Path
) -> None:
    """To two millionths: norms of queries and keys do not count where nothing else differs, as in Qwen3."""
    llm = read(tmp_path, ALL[name]["config"])
    assert llm.num_parameters == pytest.approx(ALL[name]["parameters"], rel=2e-6)
    assert llm.kv_bytes_per_token == ALL[name]["kv_bytes"]


def test_the_families_that_people_serve_are_among_them() -> None:
    assert len({row["config"]["model_type"] for row in ALL.values()}) >= 40
    assert {row["config"]["model_type"] for row in ALL.values()} <= set(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_dense_llm_says_why_its_speed_is_not_known(kind: str, tmp_path: Path) -> None:
    reasons = {name: speed_unknown(read(tmp_path, row["config"])) for name, row in KINDS[kind].items()}
    assert not any(reasons.values()) if kind == "dense" else any(reasons.values())


ACTIVE = {"Mixtral 8x7B": 12.88, "Qwen3 30B": 3.35, "DeepSeek V3": 37.55, "OLMoE": 1.28, "Llama 4 Scout": 17.17}


@pytest.mark.parametrize("name", ACTIVE)
def test_a_token_meets_the_experts_that_it_is_sent_to(name: str, tmp_path: Path) -> None:
    """Billions, as the names and cards say: A3B, 37B activated, 1.3B active, 17B active."""
    assert read(tmp_path, ALL[name]["config"]).active_parameters / 1e9 == pytest.approx(ACTIVE[name], abs=0.006)


@pytest.mark.parametrize(("name", "slices"), [("Qwen3 30B", 2), ("gpt-oss 20B", 1)])
def test_experts_have_adapters_since_vllm_0_13(name: str, slices: int, tmp_path: Path) -> None:
    """gpt-oss has one A and one B for gate and up together."""
    old, new = (lora_modules(read(tmp_path, ALL[name]["config"], f"vllm-{v}"))[0][1] for v in ("0.11.0", "0.13.0"))
    assert (len(old), len(new)) == (2, 4)
    assert len(new[2]) == slices


JUNK: tuple[Any, ...] = (None, 0, -1, 1.5, "x", [], {}, [1], ["a"], [None], {"a": 1}, True, 10**9, float("nan"), [[1]])


@pytest.mark.parametrize("name", ALL)
def test_a_field_that_is_something_else_is_refused_in_one_line_or_does_not_matter(name: str) -> None:
    for key in ALL[name]["config"]:
        for junk in JUNK:
            try:
                llm = shapes_from("config.json", "junk", None, {**ALL[name]["config"], key: junk}, "vllm-0.33.0")
            except InputError as error:
                assert str(error).startswith("config.json: ") and "\n" not in str(error)
            else:
                assert facts_of(llm, "vllm-0.33.0").parameters > 0
