"""A profile from clients' figures: the known server comes back from a start that is far off, as far as clients tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.evidence import gather
from loratwin.calibrate.records_fit import RecordsFit, fit_records
from loratwin.errors import DataError
from loratwin.llms import find_llm
from loratwin.metrics import summarize
from loratwin.perf import Profile, StepTimeModel, dump_profile, find_gpu, load_profile
from loratwin.records import Run
from loratwin.simulate import simulate
from loratwin.workload import draw, parse_spec
from tests.calibrate.known_clients import OVERHEAD_S, client_runs, drawn, off_start, seen
from tests.calibrate.known_steps import LLM, STEP_TIME, config_of, known_design, known_profile
from tests.slow import slow


@lru_cache(maxsize=2)
def fitted(noise: float = 0.0) -> RecordsFit:
    return fit_records(gather(client_runs(noise)), LLM, draws=20, start=off_start())


def errors_of(profile: Profile, rate: float, server: int) -> list[float]:
    """Relative errors of throughput, ITL and TTFT of an unseen workload, beside the known server's."""
    config, workload = config_of(known_design().servers[server]), drawn(rate)
    truth, found = (summarize(simulate(workload, p, config)) for p in (known_profile(), profile))
    assert found.starved == truth.starved
    names = ("total_throughput", "itl_mean_ms", "ttft_mean_ms")
    return [abs(getattr(found, name) / getattr(truth, name) - 1) for name in names]


def predicts(profile: Profile, rate: float, server: int, within: tuple[float, float, float]) -> None:
    """Throughput, ITL and TTFT of an unseen workload are those of the known server within these relative errors."""
    assert all(error < limit for error, limit in zip(errors_of(profile, rate, server), within, strict=True))


@pytest.mark.parametrize("rate", [5.0, 10.0, 60.0])
@pytest.mark.parametrize("server", [0, 1])
def test_unseen_workloads_are_predicted_within_a_few_per_cent(rate: float, server: int) -> None:
    predicts(fitted().profile, rate, server, (0.03, 0.03, 0.04))


def test_the_start_alone_does_not_predict_them() -> None:
    start = off_start()
    scaled = start.model_copy(update={"step_time": start.step_time.scaled(0.45)})
    with pytest.raises(AssertionError):
        predicts(scaled, 10.0, 1, (0.05, 0.05, 0.1))


@pytest.mark.parametrize("name", ["weights_s", "token_s", "running_s", "context_s", "adapter_s", "lora_decode_s"])
def test_what_is_told_lies_in_its_interval(name: str) -> None:
    found, truth = getattr(fitted().profile.step_time, name), getattr(STEP_TIME, name)
    error = fitted().profile.uncertainty.standard_errors[f"step_time.{name}"]
    assert abs(found - truth) < 2 * error
    assert error < 0.35 * truth


@slow
def test_noise_of_clients_does_little() -> None:
    """Over draws of the noise, since one may be unlucky: TTFT was off by 0.5 to 10.6 % in eight, 4.0 % on average."""
    runs = [client_runs(0.2, seed=seed) for seed in range(4)]
    profiles = [fit_records(gather(of_seed), LLM, draws=2, start=off_start()).profile for of_seed in runs]
    for rate, server in ((10.0, 0), (60.0, 1)):
        mean = np.mean([errors_of(profile, rate, server) for profile in profiles], axis=0)
        assert np.all(mean < (0.03, 0.04, 0.08)), mean


def test_the_front_ends_share_is_found_and_the_card_says_what_it_is_made_of(tmp_path: Path) -> None:
    found = fitted()
    assert found.overhead.value == pytest.approx(OVERHEAD_S, abs=6e-4) and found.overhead.number >= 10
    card = found.profile.card
    assert card.fitted_on == "clients' figures of 16 runs without steps"
    assert any("start other/one/tiny, its step times x 0.4" in note for note in card.notes)
    assert any("loads of adapters as in other/one/tiny" in note for note in card.notes)
    assert found.profile.name == "cpu/vllm-0.32.0/tiny" and found.profile.origin == "fitted"
    assert found.profile.domain.max_loras == (2, 8)
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(found.profile))
    assert load_profile(str(path)) == found.profile


def test_what_no_client_tells_stays_near_the_start_and_is_said_so() -> None:
    some = {name: run for name, run in client_runs().items() if name in ("few-full", "few-half", "few-one-adapter")}
    found = fit_records(gather(some), LLM, draws=20, start=off_start())
    note = next(note for note in found.profile.card.notes if "since clients" in note)
    assert {"skipped_s", "slot_rank_s"} < set(note.split(": ")[1].split(", ")) and "weights_s" not in note
    factor = float(next(n for n in found.profile.card.notes if "its step times x" in n).split(" x ")[1])
    expected = factor * off_start().step_time.skipped_s  # nobody was passed over
    assert found.profile.step_time.skipped_s == pytest.approx(expected, rel=0.05)
    errors = found.profile.uncertainty.standard_errors
    assert errors["step_time.skipped_s"] > 0.5 * expected


def test_the_kv_cache_is_the_starts_where_no_server_told_it() -> None:
    runs = {name: replace(run, kv_tokens=None) for name, run in list(client_runs().items())[:4]}
    start = off_start()
    found = fit_records(gather(runs), LLM, draws=2, start=start)
    assert found.profile.memory == start.memory
    assert any("memory as in other/one/tiny" in note for note in found.profile.card.notes)


LOGGED = ("few-full", "few-half", "few-single", "few-prompts")
PLAIN = ("many-full", "many-half", "many-single")


def both_kinds() -> dict[str, Run]:
    """Steps were logged on the first server only."""
    return {**{n: client_runs(logged=True)[n] for n in LOGGED}, **{n: client_runs()[n] for n in PLAIN}}


@lru_cache(maxsize=1)
def mixed() -> RecordsFit:
    return fit_records(gather(both_kinds()), LLM, draws=3)


@pytest.mark.parametrize("rate", [10.0, 60.0])
def test_clients_tell_of_slots_what_logged_steps_did_not_see(rate: float) -> None:
    logged = fit_records(gather({name: both_kinds()[name] for name in LOGGED}), LLM, draws=0).profile
    predicts(mixed().profile, rate, 1, (0.03, 0.04, 0.06))
    with pytest.raises(AssertionError):
        predicts(logged, rate, 1, (0.03, 0.04, 0.06))


def test_the_card_of_a_mix_says_how_many_there_were_of_each() -> None:
    num = sum(len(run.steps) for run in both_kinds().values() if run.steps is not None)
    found = mixed().profile
    assert found.card.fitted_on == f"{num:,} engine steps of 4 runs and clients' figures of 3 runs without steps"
    assert found.domain.max_loras == (2, 8)
    assert mixed().overhead.value == pytest.approx(OVERHEAD_S, abs=1e-3)


def test_too_few_logged_steps_count_by_what_their_client_saw() -> None:
    run = client_runs(logged=True)["few-full"]
    assert run.steps is not None
    short = replace(run, steps=run.steps.take(np.arange(len(run.steps)) < 100))
    found = fit_records(
        gather({"short": short, **{n: client_runs()[n] for n in PLAIN}}), LLM, draws=2, start=off_start()
    )
    assert found.profile.card.fitted_on.startswith("100 engine steps of 1 runs and clients' figures of 3 runs")
    assert "short" in found.steps.held_out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {"finish_s": np.full(len(t), np.nan)}, "no request finished"),
        (lambda t: {"prompt_tokens": np.zeros(len(t), dtype=np.int32)}, "how long prompts and outputs were"),
        (lambda t: {"output_tokens": np.ones(len(t), dtype=np.int32)}, "0 finished requests of two tokens or more"),
        (lambda t: {"replica": (np.arange(len(t)) % 2).astype(np.int32)}, "several servers answered"),
    ],
)
def test_a_client_that_tells_nothing_is_refused_with_the_reason(change, reason: str) -> None:  # type: ignore[no-untyped-def]
    run = client_runs()["few-full"]
    bad = replace(run, requests=replace(run.requests, **change(run.requests)))
    found = gather({"bad": bad, "good": run})
    assert reason in found.refused["bad"] and set(found.unlogged) == {"good"}


def test_a_record_that_does_not_tell_its_gpu_is_taken_for_one_of_the_others() -> None:
    run = client_runs()["few-full"]
    silent = replace(run, provenance=replace(run.provenance, gpu="", engine_version=""))
    found = gather({"told": run, "silent": silent})
    assert set(found.unlogged) == {"told", "silent"} and found.server.on_cpu
    assert any("GPU taken to be 'cpu'" in note and "silent" in note for note in found.notes)


def on_gpu(runs: Mapping[str, Run], gpu: str) -> dict[str, Run]:
    return {name: replace(run, provenance=replace(run.provenance, gpu=gpu)) for name, run in runs.items()}


@pytest.mark.parametrize(
    ("gpu", "why"), [("cpu", "nothing is assumed of a CPU"), ("", "no record names"), ("Foo 1", "Foo")]
)
def test_without_a_start_the_error_says_what_to_give(gpu: str, why: str) -> None:
    with pytest.raises(DataError, match=f"{why}.*--start"):
        fit_records(gather(on_gpu({"one": client_runs()["few-full"]}, gpu)), LLM)


def test_a_known_gpu_is_assumed_to_start_from() -> None:
    truth = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    config = config_of(known_design().servers[1]).replace(max_num_seqs=64)
    faster = truth.model_copy(update={"step_time": truth.step_time.scaled(0.8)})
    runs = {f"r{i}": seen(simulate(drawn(4.0 * i, i), faster, config)) for i in (1, 2, 3)}
    found = fit_records(on_gpu(runs, "NVIDIA H100 80GB HBM3"), "llama-3.1-8b-instruct", 10)
    assert found.profile.llm == find_llm("llama-3.1-8b-instruct", "vllm-0.32.0")
    assert any("start h100-sxm/vllm-0.32.0/llama" in note for note in found.profile.card.notes)
    said, true = (summarize(simulate(drawn(6.0, 9), p, config)).itl_mean_ms for p in (found.profile, faster))
    assert said == pytest.approx(true, rel=0.05)


def test_records_without_adapters_and_of_one_length_leave_attention_to_physics(tmp_path: Path) -> None:
    """Of prompts of one length nothing tells a pair of tokens from a token: what is wrong of the one is the other's."""
    truth = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    slow = truth.step_time.model_copy(update={"token_s": 1.6 * truth.step_time.token_s})
    server = truth.model_copy(update={"step_time": slow})
    config = config_of(known_design().servers[0]).replace(max_loras=0, max_num_seqs=64, max_num_batched_tokens=8192)
    lengths = {"prompt": {"kind": "fixed", "tokens": 900}, "output": {"kind": "fixed", "tokens": 60}}
    runs = {}
    for rate in (3, 6, 9):
        spec = {"window_s": 10.0, "lengths": lengths, "base": {"rate": rate, "arrivals": "poisson"}}
        runs[f"at-{rate}"] = seen(simulate(draw(parse_spec(spec), rate), server, config))
    found = fit_records(gather(runs), truth.llm, draws=2, start=truth).profile
    assert found.domain.served_adapters == (0, 0)
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(found))
    assert load_profile(str(path)) == found
    pairs = found.step_time.prefill_context_s / truth.step_time.prefill_context_s
    assert 0.5 < pairs < 2
    assert found.step_time.token_s > 1.3 * truth.step_time.token_s


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA H100 PCIe", "h100-pcie"), ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"), ("NVIDIA H100 NVL", "h100-nvl"),
    ],
)  # fmt: skip
def test_gpus_are_known_by_the_name_that_nvml_gives_them(name: str, gpu: str) -> None:
    from loratwin.calibrate.start import gpu_like

    assert gpu_like(name) == find_gpu(gpu)
    assert gpu_like("Unheard-of 9000") is None


def test_no_profile_that_does_not_fit_is_forced_on_a_run() -> None:
    run = client_runs()["few-full"]
    small = off_start().model_copy(update={"llm": LLM})
    ranks = replace(run.adapters, rank=np.full(16, 64, dtype=np.int32))
    with pytest.raises(DataError, match="cannot serve any of 1 records .*rank 64"):
        fit_records(gather({"odd": replace(run, adapters=ranks)}), LLM, start=small)


def test_every_coefficient_has_a_place() -> None:
    from loratwin.calibrate.regression.client_figures import NAMES

    fixed = {"roofline_power", "graph_tokens", "expert_s", "expert_share", "mixed_context_s"}
    fixed |= {"mixed_request_s", "reread_context_s", "reread_beyond"}
    assert set(NAMES) - {"overhead_s"} == set(StepTimeModel.model_fields) - fixed
