"""Many runs: the same as each alone, whatever the number of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.metrics import confidence_interval, parse_slo, per_adapter, starving_adapters, summarize
from loratwin.records import EngineConfig
from loratwin.simulate import Outcome, Replications, outcome, replicate, simulate, sweep, try_config, workers
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC
from tests.slow import slow

SLO = parse_slo("ttft_p99=2s,tpot_mean=50ms")
CONFIGS = [CONFIG.replace(max_loras=n) for n in (24, 4, 1, 8)] + [EngineConfig(max_loras=384, max_lora_rank=128)]


def same(a: Outcome, b: Outcome) -> bool:
    """Equal, NaN included, bit for bit."""
    return repr(a) == repr(b)


def test_replications_are_the_runs_one_by_one() -> None:
    found = replicate(SPEC, PROFILE, CONFIG, seeds=[3, 1], slo=SLO)
    alone = [outcome(simulate(draw(SPEC, seed), PROFILE, CONFIG), SLO) for seed in (3, 1)]
    assert all(same(a, b) for a, b in zip(found.outcomes, alone, strict=True))
    assert found.seeds == (3, 1)
    assert (found.config, found.kv_tokens, found.reason) == (CONFIG, alone[0].kv_tokens, "")


def test_figures_are_means_with_confidence_intervals() -> None:
    found = replicate(SPEC, PROFILE, CONFIG, seeds=range(4), slo=SLO)
    figures = found.figures(level=0.9)
    values = [summary.ttft_mean_ms for summary in found.summaries]
    assert figures["ttft_mean_ms"] == confidence_interval(values, 0.9)
    assert figures["ttft_mean_ms"].half_width > 0
    assert found.slo_s()["ttft_p99"] == confidence_interval([each.slo_s["ttft_p99"] for each in found.outcomes])
    assert found.goodput().mean > 0


def test_adapters_that_starve_in_more_runs_come_first() -> None:
    outcomes = [try_config(draw(SPEC, 0), PROFILE, CONFIG) for _ in range(3)]
    starving = [("b", "a"), ("c",), ("c", "a", "d")]
    changed = tuple(Outcome(**{**vars(o), "starving": names}) for o, names in zip(outcomes, starving, strict=True))
    assert list(Replications(changed).starving.items()) == [("a", 2), ("c", 2), ("b", 1), ("d", 1)]


def test_no_seed_is_refused() -> None:
    with pytest.raises(InputError, match="no seed"):
        replicate(SPEC, PROFILE, CONFIG, seeds=[])


def test_who_starves_is_the_same_with_and_without_the_other_figures() -> None:
    slow = SPEC.model_copy(update={"window_s": 60.0})
    run = simulate(draw(slow, 0), PROFILE, CONFIG.replace(max_loras=1, max_num_seqs=2))
    assert summarize(run).starved
    assert starving_adapters(run) == per_adapter(run).starving != ()


def test_a_sweep_keeps_the_order_and_reports_what_does_not_start() -> None:
    done: list[int] = []
    found = sweep(draw(SPEC, 0), PROFILE, CONFIGS, progress=done.append)
    assert [each.config for each in found] == CONFIGS
    assert [each.starts for each in found] == [True, True, True, True, False]
    assert found[-1].summary is None
    assert "does not start" in found[-1].reason
    assert done == [1, 2, 3, 4, 5]
    assert all(same(a, outcome(simulate(draw(SPEC, 0), PROFILE, a.config))) for a in found[:-1])


def test_an_empty_sweep_is_empty() -> None:
    assert sweep(draw(SPEC, 0), PROFILE, []) == []


def test_a_rank_above_the_limit_stops_a_sweep() -> None:
    with pytest.raises(InputError, match="rank 16, above max_lora_rank = 8"):
        sweep(draw(SPEC, 0), PROFILE, [CONFIG, CONFIG.replace(max_lora_rank=8)])


def test_more_processes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)  # otherwise so little work is not worth a process
    demand = draw(SPEC, 0)
    alone = sweep(demand, PROFILE, CONFIGS, slo=SLO)
    done: list[int] = []
    together = sweep(demand, PROFILE, CONFIGS, processes=2, progress=done.append, slo=SLO)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert done[-1] == len(CONFIGS)
    assert done == sorted(done)
    seeds = replicate(SPEC, PROFILE, CONFIG, range(3), processes=2)
    assert all(
        same(a, b) for a, b in zip(seeds.outcomes, replicate(SPEC, PROFILE, CONFIG, range(3)).outcomes, strict=True)
    )


LONG_SWEEP = """
from loratwin.simulate import simulate, sweep, workers
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC

if __name__ == "__main__":
    workers.SPAWN_S = 0.0
    simulate(draw(SPEC, 0), PROFILE, CONFIG)  # compiles the kernel, if need be
    print("started", flush=True)
    try:
        sweep(draw(SPEC.model_copy(update={"window_s": 3600.0}), 0), PROFILE, [CONFIG] * 10_000, processes=2)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def assert_gone(group: int, patience_s: float = 10.0) -> None:
    """No process of a group is left, or soon none."""
    end = time.monotonic() + patience_s
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.05)


@slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal of POSIX")
def test_ctrl_c_stops_a_sweep_and_its_processes(tmp_path: Path) -> None:
    script = tmp_path / "sweep.py"
    script.write_text(LONG_SWEEP)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(3.0)  # the second process is there by now
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            out, err = process.communicate(timeout=90)
            assert (out, err) == ("interrupted\n", "")
            assert_gone(process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
