"""The table of engines is whole, and what it says of each is found by its shared name."""

from __future__ import annotations

import inspect
import json

import pytest

from loratwin.engines.options import Takes
from loratwin.engines.registry import DEFAULT, ENGINES, engine_of, find_engine
from loratwin.engines.versions import GENERATIONS, UNTOLD, default_limits, generation_of, told_version
from loratwin.errors import UnknownNameError
from loratwin.llms import find_llm, shapes_from_config
from loratwin.perf import assume, assume_memory
from loratwin.records import EngineConfig
from loratwin.telemetry.names import FOLDS, LENGTHS

NOT_OF_ONE_SERVER = {"max_in_flight"}  # of clients


def test_the_engine_of_the_twin_has_an_option_for_each_field_of_a_configuration() -> None:
    assert set(EngineConfig.model_fields) - set(find_engine(DEFAULT).options) == NOT_OF_ONE_SERVER


@pytest.mark.parametrize("name", list(ENGINES))
def test_no_two_options_are_written_alike(name: str) -> None:
    spelled = [spelling for option in ENGINES[name].options.values() for spelling in (*option.names, *option.off)]
    assert len(spelled) == len(set(spelled))
    assert ENGINES[name].options["enable_lora"].takes is Takes.NOTHING


@pytest.mark.parametrize("name", list(ENGINES))
def test_every_metric_has_a_shared_name_that_telemetry_knows(name: str) -> None:
    assert set(ENGINES[name].metrics) <= {*FOLDS, *LENGTHS}


def test_engines_are_found_by_name_and_by_a_versions() -> None:
    assert find_engine("sglang") is engine_of("sglang-0.5.2") is ENGINES["sglang"]
    assert engine_of("") is engine_of("vllm-0.8.5") is find_engine(DEFAULT)
    with pytest.raises(UnknownNameError, match="unknown engine 'vlm'"):
        find_engine("vlm")


def test_names_that_name_equals_path_cannot_hold_are_json() -> None:
    vllm, sglang = (ENGINES[name].adapter_word for name in ("vllm", "sglang"))
    assert vllm("a", "/x/a") == sglang("a", "/x/a") == "a=/x/a"
    assert json.loads(vllm("a", "/x,y")) == {"name": "a", "path": "/x,y"}
    assert sglang("a", "/x,y") == "a=/x,y"  # it splits at the first =
    assert json.loads(sglang("a=b", "/x")) == {"lora_name": "a=b", "lora_path": "/x"}


def test_versions_with_a_meaning_are_known() -> None:
    assert GENERATIONS[0].name == "vllm-0.8.5"
    assert generation_of(UNTOLD).notes == ()


def test_a_version_that_nobody_tells_is_the_same_everywhere_and_said() -> None:
    assert told_version("vllm-0.11.0") == ("vllm-0.11.0", ())
    version, said = told_version(None)
    assert version == UNTOLD == "vllm-0.32.0" and UNTOLD in said[0]
    assert default_limits("", 79.2) == default_limits(UNTOLD, 79.2)
    for function in (find_llm, shapes_from_config, assume, assume_memory):
        assert inspect.signature(function).parameters["engine"].default == UNTOLD, function.__name__
