"""A profile from records: it predicts what the known server does, is a file, and says what it does not know."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.evidence import gather
from loratwin.calibrate.records_fit import RecordsFit, fit_records
from loratwin.errors import DataError
from loratwin.metrics import summarize
from loratwin.perf import dump_profile, load_profile
from loratwin.records import Run
from loratwin.simulate import served_capacity, simulate
from loratwin.workload import draw, parse_spec
from tests.calibrate.known_steps import LLM, config_of, known_design, known_profile, known_runs


@lru_cache(maxsize=1)
def fitted() -> RecordsFit:
    return fit_records(gather(known_runs(), allow_simulated=True), LLM, draws=10)


@pytest.mark.parametrize("rate", [10.0, 60.0])
@pytest.mark.parametrize("server", [0, 1])
def test_it_predicts_a_workload_that_was_not_fitted(rate: float, server: int) -> None:
    group = {"name": "a", "count": 16, "total_rate": rate, "ranks": [8, 16]}
    lengths = {"prompt": {"kind": "uniform", "min": 20, "max": 150}, "output": {"kind": "uniform", "min": 2, "max": 60}}
    workload = draw(parse_spec({"window_s": 20.0, "lengths": lengths, "groups": [group]}))
    config = config_of(known_design().servers[server])
    truth, found = (summarize(simulate(workload, p, config)) for p in (known_profile(), fitted().profile))
    assert found.total_throughput == pytest.approx(truth.total_throughput, rel=0.01)
    assert found.itl_mean_ms == pytest.approx(truth.itl_mean_ms, rel=0.01)
    assert found.starved == truth.starved
    extra_ms = 1e3 * (known_profile().frontend.overhead_s - fitted().profile.frontend.overhead_s)
    assert found.ttft_mean_ms + extra_ms == pytest.approx(truth.ttft_mean_ms, rel=0.02)


def test_its_file_is_read_again_with_all_that_is_known(tmp_path: Path) -> None:
    profile = fitted().profile
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(profile))
    assert load_profile(str(path)) == profile
    assert profile.uncertainty is not None
    assert set(profile.uncertainty.correlated) <= set(profile.uncertainty.standard_errors)
    assert profile.engine == "vllm-0.32.0" and profile.behaviour.reserve_full_prompt
    assert profile.domain.max_loras == (2, 8) and profile.domain.max_lora_rank == (16, 32)
    assert "16 runs" in profile.card.fitted_on and "(16 runs)" in str(profile.card.held_out_error)


def test_records_that_name_another_llm_are_fitted_with_a_note() -> None:
    def named(llm: str, *args: str) -> dict[str, Run]:
        return {
            name: replace(run, provenance=replace(run.provenance, llm=llm, server_args=args))
            for name, run in known_runs().items()
        }

    def notes(runs: dict[str, Run]) -> list[str]:
        found = fit_records(gather(runs, allow_simulated=True), LLM, draws=0)
        return [note for note in found.profile.card.notes if "another LLM" in note]

    (note,) = notes(named("Qwen/Qwen2.5-7B-Instruct"))
    assert note.startswith("the records name another LLM, 'Qwen/Qwen2.5-7B-Instruct', than the 'tiny' of this fit")
    assert notes(named("", "--model", "meta-llama/Llama-3.1-8B-Instruct"))
    assert not notes(named("tiny")) and not notes(named("llama-3.1-8b-instruct", "--model", "/their/disk/tiny"))


def test_the_kv_cache_is_the_one_that_the_servers_told() -> None:
    config = config_of(known_design().servers[0])
    truth = known_runs()["few-full"].kv_tokens
    assert served_capacity(fitted().profile, config).tokens == truth


def test_kv_caches_that_differ_are_noted() -> None:
    runs = known_runs()
    assert not any("KV caches" in note for note in fitted().profile.card.notes)
    tokens = runs["few-full"].kv_tokens
    assert tokens is not None
    runs = {**runs, "few-full": replace(runs["few-full"], kv_tokens=tokens // 2)}
    notes = fit_records(gather(runs, allow_simulated=True), LLM, draws=2).profile.card.notes
    (note,) = [note for note in notes if "KV caches" in note]
    assert f"told KV caches of {tokens // 2:,} to {tokens:,} tokens: their median counts" in note


def test_servers_without_adapters_do_not_tell_that_adapters_cost_nothing() -> None:
    runs = {name: replace(run, config=run.config.replace(max_loras=0)) for name, run in known_runs().items()}
    with pytest.raises(DataError, match="no run is of a server with adapters"):
        fit_records(gather(runs, allow_simulated=True), LLM, draws=2)


def test_runs_without_adapter_that_follow_another_law_are_left_out_with_a_note() -> None:
    runs = dict(known_runs())
    base = runs["few-base"].steps
    assert base is not None
    runs["few-base"] = replace(runs["few-base"], steps=replace(base, duration_s=3 * base.duration_s))
    found = fit_records(gather(runs, allow_simulated=True), LLM, draws=2)
    assert any(re.match(r"requests without adapter take [23]\.", note) for note in found.profile.card.notes), (
        found.profile.card.notes
    )
    assert found.profile.step_time.slot_s == pytest.approx(fitted().profile.step_time.slot_s, rel=0.02)


def test_what_was_refused_is_on_the_card() -> None:
    runs = dict(known_runs())
    steps = runs["few-full"].steps
    assert steps is not None
    runs["bad"] = replace(runs["few-full"], steps=steps.take(np.arange(len(steps)) < 5))
    found = fit_records(gather(runs, allow_simulated=True), LLM, draws=2)
    assert any(note.startswith("refused: bad: 5 steps") for note in found.profile.card.notes)


def test_an_unknown_kv_cache_is_refused() -> None:
    runs = {name: replace(run, kv_tokens=None) for name, run in known_runs().items()}
    with pytest.raises(DataError, match="KV cache"):
        fit_records(gather(runs, allow_simulated=True), LLM, draws=2)
