"""Which records are evidence: the rest is refused, each with its reason."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.evidence import gather, read_records
from loratwin.calibrate.server import profiled_server
from loratwin.errors import DataError
from loratwin.perf import ProfiledServer
from loratwin.records import Run, save_run
from tests.calibrate.known_steps import begun_before, known_runs, with_loads


def measured(run: Run, **provenance: str) -> Run:
    facts: dict[str, Any] = {"engine_version": "vllm-0.32.0", "gpu": "cpu", "llm": "tiny", **provenance}
    return replace(run, kind="measured", provenance=replace(run.provenance, **facts))


def runs() -> dict[str, Run]:
    return {name: measured(run) for name, run in list(known_runs().items())[:4]}


def test_good_runs_are_all_taken() -> None:
    found = gather(runs())
    assert set(found.logged) == set(runs()) == found.in_time
    assert not found.refused and not found.notes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: replace(run, kind="simulated"), "simulated, not measured"),
        (
            lambda run: replace(run, steps=None, requests=run.requests.take(np.arange(len(run.requests)) < 2)),
            "steps were not logged",
        ),
        (lambda run: replace(run, steps=run.steps.take(np.arange(len(run.steps)) < 5)), "5 steps, fewer than 16"),
        (lambda run: replace(run, invalid=("12 of 40 requests failed (HTTP 500: 12)",)), "invalid: 12 of 40"),
        (lambda run: measured(run, engine_version="vllm-0.8.5"), "engine version is 'vllm-0.8.5'"),
        (lambda run: measured(run, gpu="NVIDIA H100"), "GPU is 'NVIDIA H100'"),
        (lambda run: measured(run, llm="other"), "LLM is 'other'"),
    ],
)
def test_bad_evidence_is_refused_with_its_reason(change, reason: str) -> None:  # type: ignore[no-untyped-def]
    good = runs()
    name = list(good)[1]
    found = gather({**good, name: change(good[name])})
    assert list(found.refused) == [name] and reason in found.refused[name]
    assert name not in found.logged and len(found.logged) == 3


@pytest.mark.parametrize(
    ("column", "change", "reason"),
    [
        ("duration_s", lambda values: -values, "each must take a time above 0"),
        ("duration_s", lambda values: values * np.nan, "each must take a time above 0"),
        ("duration_s", lambda values: values * 1e3, r"they take \d+ s, and the run"),
        ("load_s", lambda values: values - 1.0, "loads are part of a step's time"),
        ("load_s", lambda values: values + 1e3, "loads are part of a step's time"),
        ("decode_context", lambda values: values - 10**6, "decode_context is negative"),
        ("decode_requests", lambda values: values + 10**6, "more decode than run"),
    ],
)
def test_damaged_steps_are_refused_before_they_pull_at_the_fit(column, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    good = runs()
    name = list(good)[1]
    steps = good[name].steps
    assert steps is not None
    values = getattr(steps, column)
    values = np.zeros(len(steps)) if values is None else values
    damaged = replace(good[name], steps=replace(steps, **{column: change(values)}))
    found = gather({**good, name: damaged})
    assert list(found.refused) == [name] and re.search(reason, found.refused[name])


def with_args(run: Run, *args: str) -> Run:
    return replace(run, provenance=replace(run.provenance, server_args=("--model", "tiny", *args)))


@pytest.mark.parametrize(
    "args", [("--tensor-parallel-size", "2"), ("--quantization=fp8",), ("--dtype", "float32"), ("--enforce-eager",)]
)
def test_servers_that_run_the_llm_in_another_way_are_no_evidence_for_one_profile(args: tuple[str, ...]) -> None:
    good = {name: with_args(run) for name, run in runs().items()}
    name = list(good)[1]
    found = gather({**good, name: with_args(good[name], *args)})
    assert list(found.refused) == [name]
    assert f"'{' '.join(args).replace('=', ' ')}', that of most evidence 'as by default'" in found.refused[name]
    assert not found.notes


def test_what_the_servers_ran_with_is_known_and_what_varied_is_said() -> None:
    flags = ("--dtype", "bfloat16", "--max-num-seqs", "16", "--distributed-executor-backend", "uni")
    good = {name: with_args(run, *flags) for name, run in runs().items()}
    assert profiled_server(gather(good)) == ProfiledServer(
        options=("--dtype bfloat16", "--distributed-executor-backend uni"), environment=None
    )
    name = list(good)[1]
    odd = with_args(good[name], "--dtype", "bfloat16", "--block-size", "32")
    told = replace(odd, provenance=replace(odd.provenance, server_env=("OMP_NUM_THREADS=1",)))
    assert profiled_server(gather({**good, name: told})) == ProfiledServer(
        options=("--dtype bfloat16",),
        environment=("OMP_NUM_THREADS=1",),
        varied=("--distributed-executor-backend uni", "--block-size 32"),
    )
    assert profiled_server(gather(runs())) is None


def test_what_is_the_default_in_other_words_is_no_other_way() -> None:
    good = {name: with_args(run) for name, run in runs().items()}
    name = list(good)[1]
    same = with_args(good[name], "--dtype", "bfloat16", "-tp", "1", "--kv-cache-dtype", "auto")
    assert not gather({**good, name: same}).refused


def test_gpus_that_share_the_llm_are_known_and_numbers_of_other_bytes_noted() -> None:
    shared = gather({name: with_args(run, "-tp", "2") for name, run in runs().items()})
    assert shared.server.tensor_parallel == 2 and not shared.notes
    assert gather(runs()).server.tensor_parallel == 1


def test_without_graphs_no_step_is_replayed() -> None:
    def on_gpu(*args: str) -> float:
        known = {name: with_args(measured(run, gpu="NVIDIA H100"), *args) for name, run in runs().items()}
        return gather(known).server.graph_tokens

    assert (on_gpu(), on_gpu("--enforce-eager"), on_gpu("--enforce-eager", "--no-enforce-eager")) == (512, 0, 512)
    (note,) = gather({name: with_args(run, "--kv-cache-dtype", "fp8") for name, run in runs().items()}).notes
    assert "ran with --kv-cache-dtype fp8: the twin takes weights and KV cache to be of 16 bits" in note


def test_a_late_client_leaves_the_engines_steps_as_evidence() -> None:
    good = runs()
    late = replace(good["few-full"], invalid=("the client fell behind its schedule: send lag p99 9 ms, above 5 ms",))
    found = gather({**good, "few-full": late})
    assert "few-full" in found.logged and "few-full" not in found.in_time
    assert "client was late" in found.notes[0] and "few-full" in found.notes[0]


def test_nothing_left_says_why() -> None:
    with pytest.raises(DataError, match="none of 4 records is evidence .*simulated"):
        gather({name: replace(run, kind="simulated") for name, run in runs().items()})


def test_records_are_read_from_a_folder_but_not_raw_steps(tmp_path: Path) -> None:
    save_run(runs()["few-full"], tmp_path / "one.json")
    (tmp_path / "one-steps-0.parquet").write_bytes(b"not a run")
    assert list(read_records(tmp_path)) == ["one"]
    with pytest.raises(DataError, match="no records of runs"):
        read_records(tmp_path / "empty")


def test_loads_may_begin_while_the_step_before_computes() -> None:
    run = measured(begun_before(with_loads(known_runs()["few-changing"])))
    assert run.steps is not None and run.steps.load_s is not None
    assert (run.steps.load_s > run.steps.duration_s).any()
    assert not gather({**runs(), "few-changing": run}).refused


def test_loads_longer_than_the_run_are_damage_even_in_its_first_step() -> None:
    run = measured(with_loads(known_runs()["few-changing"]))
    assert run.steps is not None and run.steps.load_s is not None
    load_s = run.steps.load_s.copy()
    load_s[0] = 2 * run.window_s
    found = gather({**runs(), "few-changing": replace(run, steps=replace(run.steps, load_s=load_s))})
    assert "loads take" in found.refused["few-changing"]
