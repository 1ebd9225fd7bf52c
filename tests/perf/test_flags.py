"""Flags that change a profile: what is known of them changes it, what is not is said or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import Profile, assume, find_gpu, kv_capacity, save_profile, served_profile, step_time_of
from loratwin.records import EngineConfig
from loratwin.simulate import simulate
from loratwin.workload import draw
from tests.simulate.servers import SPEC

FITTED = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
CONFIG = EngineConfig(max_loras=8, max_lora_rank=32)


@pytest.fixture
def assumed() -> Profile:
    return assume(find_gpu("l40s"), find_llm("llama-3.1-8b-instruct"), "vllm-0.23.0")


@pytest.fixture
def file(assumed: Profile, tmp_path: Path) -> str:
    path = tmp_path / "assumed.yaml"
    save_profile(assumed, path)
    return str(path)


def test_keys_and_values_of_8_bits_are_read_in_about_half_the_time(assumed: Profile) -> None:
    model, notes = step_time_of(assumed, CONFIG.replace(kv_cache_dtype="fp8"))
    usual = assumed.step_time
    assert 0.45 < model.context_s / usual.context_s < 0.65
    apart = dict.fromkeys(("mixed_context_s", "mixed_request_s", "reread_context_s"), 0.0)  # by another kernel
    assert usual.mixed_request_s > 0
    assert model == usual.model_copy(update={"context_s": model.context_s, **apart})
    assert notes and "no such server was compared" in notes[0]
    assert step_time_of(assumed, CONFIG) == (assumed.step_time, ())
    assert step_time_of(assumed, CONFIG.replace(kv_cache_dtype="bfloat16"))[0] == assumed.step_time
    wide, narrow = (
        kv_capacity(assumed.llm, assumed.memory, CONFIG.replace(kv_cache_dtype=kind)) for kind in ("auto", "fp8")
    )
    assert narrow.tokens == pytest.approx(2 * wide.tokens, rel=0.001)


def test_a_profile_of_an_unknown_gpu_goes_by_bytes(assumed: Profile) -> None:
    other = assumed.model_copy(update={"name": "abacus/vllm-0.23.0/llama-3.1-8b-instruct"})
    model, _ = step_time_of(other, CONFIG.replace(kv_cache_dtype="fp8"))
    assert model.context_s == pytest.approx(assumed.step_time.context_s / 2)


def test_quantized_weights_are_assumed_anew(assumed: Profile, file: str) -> None:
    quantized = served_profile(file, "fp8")
    assert quantized.llm.weight_bytes_on_gpu(1) < 0.6 * assumed.llm.weight_bytes_on_gpu(1)
    assert quantized.step_time.weights_s < 0.7 * assumed.step_time.weights_s
    assert quantized.llm.given == assumed.llm.repository
    assert served_profile(file) == assumed


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        (FITTED, {"quantization": "awq"}, "profiles assume --gpu h100-64gb --llm llama-3.1-8b-instruct-awq"),
        (FITTED, {"pipeline_parallel": 2}, "pipeline_parallel = 2: how fast stages are is not known"),
        ("", {"quantization": "abacus"}, "quantization = 'abacus', but it must be one of fp8, awq, gptq"),
    ],
)
def test_what_is_not_known_is_refused(name: str, flags: dict[str, str], message: str, file: str) -> None:
    with pytest.raises(InputError, match=message):
        served_profile(name or file, **flags)  # type: ignore[arg-type]


def test_a_run_says_what_its_times_do_not_know(assumed: Profile) -> None:
    workload = draw(SPEC)
    slots = CONFIG.replace(max_loras=max(1, len(workload.adapters)))
    plain = simulate(workload, assumed, slots)
    flagged = simulate(
        workload, assumed, slots.replace(enforce_eager=True, fully_sharded_loras=True, quantization="fp8")
    )
    more = [note for note in flagged.provenance.notes if note not in plain.provenance.notes]
    assert [note.split(":")[0] for note in more] == [
        "quantization = fp8", "enforce_eager", "fully_sharded_loras",
    ]  # fmt: skip
    with pytest.raises(InputError, match="dtype = float32: how fast steps are is known of 16 bits"):
        simulate(workload, assumed, slots.replace(dtype="float32"))
    with pytest.raises(InputError, match="dtype = 'real', but it must be one of auto, bfloat16"):
        simulate(workload, assumed, slots.replace(dtype="real"))
