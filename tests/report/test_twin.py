"""The twin of a measured run: the same requests on the same server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.perf import load_profile
from loratwin.report.twin import twin_of, with_arguments
from loratwin.workload import served_workload
from tests.metrics.runs import NEVER, make_run
from tests.report.measured import PROFILE, measured, simulated


def test_the_twin_of_a_run_of_the_twin_is_that_run() -> None:
    base = simulated()
    table = replace(base.requests, sent_s=base.requests.arrival_s, admitted_s=np.full(len(base.requests), NEVER))
    run = replace(base, kind="measured", requests=table, steps=None)
    found = twin_of(run, load_profile(PROFILE))
    np.testing.assert_array_equal(found.requests.finish_s, base.requests.finish_s)
    assert found.kind == "simulated"
    assert (found.config, found.kv_tokens) == (base.config, base.kv_tokens)
    assert not any("not simulated" in note for note in found.provenance.notes)


def test_requests_that_the_server_never_worked_for_are_left_out_and_said() -> None:
    run = make_run(
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 11.0],
        sent=[0.5, 1.0, 2.0, 3.0, NEVER, 5.0, 11.0],
        output=[7] * 7,
        received=[7, 3, 0, 2, 0, 0, 0],
        failure=[-1, -1, 0, 0, -1, -1, -1],
        failures=("cut off",),
        refused=[False] * 5 + [True, False],
        adapter=[1, 0, 0, -1, 0, 0, 0],
        kind="measured",
    )
    found = served_workload(run)
    assert found.arrival_s.tolist() == [0.5, 1.0, 3.0]
    assert found.output_tokens.tolist() == [7, 7, 2]  # what the one that was cut off had brought
    assert found.adapter.tolist() == [1, 0, -1]
    notes = twin_of(run, load_profile(PROFILE)).provenance.notes
    assert "4 requests that failed, were refused or never sent are not simulated" in notes


def test_what_the_run_does_not_know_is_predicted_and_said() -> None:
    run = replace(measured(), kv_tokens=None, provenance=replace(measured().provenance, engine_version="vllm-0.11"))
    found = twin_of(run, load_profile(PROFILE))
    assert found.kv_tokens == simulated().kv_tokens
    assert "the KV cache is as large as the profile predicts: the run does not say" in found.provenance.notes
    assert "the profile is of vllm-0.8.5, the server was vllm-0.11" in found.provenance.notes


def test_a_kv_cache_of_known_size_is_the_twins() -> None:
    assert twin_of(replace(measured(), kv_tokens=123_456), load_profile(PROFILE)).kv_tokens == 123_456


def test_an_unknown_rank_is_the_largest_that_fits() -> None:
    run = measured()
    run = replace(run, adapters=replace(run.adapters, rank=np.zeros(300, dtype=np.int32)))
    assert set(served_workload(run).adapters.rank) == {16}


def test_several_servers_are_refused() -> None:
    run = make_run([0.0, 1.0], sent=[0.0, 1.0], kind="measured")
    run = replace(run, requests=replace(run.requests, replica=np.array([0, 1], dtype=np.int32)))
    with pytest.raises(InputError, match="2 servers answered"):
        twin_of(run, load_profile(PROFILE))


def test_what_a_server_did_not_tell_is_said_and_taken_from_the_user() -> None:
    base = measured()
    provenance = replace(base.provenance, server_args=(), assumed=("max_lora_rank", "max_num_seqs"))
    run = replace(base, config=base.config.replace(max_lora_rank=8), provenance=provenance)
    assert run.adapters.rank.max() > 8
    with pytest.raises(InputError, match=r"above max_lora_rank = 8; .*did not tell.*max_lora_rank = 8.*--server-args"):
        twin_of(run, load_profile(PROFILE))
    (told,) = with_arguments({"run": run}, "--max-lora-rank 64 --max-num-seqs 77").values()
    assert told.config == run.config.replace(max_lora_rank=64, max_num_seqs=77)
    assert told.provenance.assumed == ()
    (partly,) = with_arguments({"run": run}, "--max-lora-rank 64").values()
    notes = twin_of(partly, load_profile(PROFILE)).provenance.notes
    assert f"the server did not tell its limits; assumed: max_num_seqs = {run.config.max_num_seqs}" in notes
    twin = twin_of(partly, load_profile(PROFILE))
    assert with_arguments({"twin": twin}, "--max-lora-rank 8")["twin"] is twin


def test_arguments_told_afterwards_are_checked() -> None:
    with pytest.raises(InputError, match="no whole number"):
        with_arguments({"run": measured()}, "--max-num-seqs many")
