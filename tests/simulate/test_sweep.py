"""Many runs: the same as each alone, whatever the number of processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError
from loratwin.metrics import confidence_interval, gauges, parse_slo, per_adapter, starving_adapters, summarize
from loratwin.records import EngineConfig
from loratwin.simulate import (
    Outcome,
    Replications,
    forecast,
    outcome,
    replicate,
    server_configs,
    simulate,
    sweep,
    try_config,
    workers,
)
from loratwin.simulate.sweep import Kept
from loratwin.workload import draw
from tests.processes import LIMIT_S, line_of
from tests.simulate.servers import CONFIG, PROFILE, SPEC
from tests.slow import slow

SLO = parse_slo("ttft_p99=2s,tpot_mean=50ms")
CONFIGS = [CONFIG.replace(max_loras=n) for n in (24, 4, 1, 8)] + [EngineConfig(max_loras=384, max_lora_rank=128)]


def same(a: object, b: object) -> bool:
    """Equal, NaN included, bit for bit."""
    return repr(a) == repr(b)


def test_replications_are_the_runs_one_by_one() -> None:
    found = replicate(SPEC, PROFILE, CONFIG, seeds=[3, 1], slo=SLO)
    alone = [outcome(simulate(draw(SPEC, seed), PROFILE, CONFIG), SLO, PROFILE.uncertainty) for seed in (3, 1)]
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


def test_a_sweep_keeps_the_order_and_says_what_does_not_start() -> None:
    done: list[int] = []
    found = sweep(draw(SPEC, 0), PROFILE, CONFIGS, progress=done.append)
    assert [column.config for column in found.columns] == CONFIGS
    assert [column.starts for column in found.columns] == [True, True, True, True, False]
    assert found.columns[-1].summaries == ()
    assert "does not start" in found.columns[-1].reason
    assert found.none_starts == ""
    assert done == [1, 2, 3, 4, 5]
    outcomes = [column.outcomes[0] for column in found.columns[:-1]]
    assert all(same(a, outcome(simulate(draw(SPEC, 0), PROFILE, a.config))) for a in outcomes)


def test_an_empty_sweep_is_empty() -> None:
    assert sweep(draw(SPEC, 0), PROFILE, []).columns == ()


def test_a_rank_above_the_limit_stops_a_sweep() -> None:
    with pytest.raises(InputError, match="rank 16, above max_lora_rank = 8"):
        sweep(draw(SPEC, 0), PROFILE, [CONFIG, CONFIG.replace(max_lora_rank=8)])


def test_each_column_has_all_seeds() -> None:
    found = sweep(SPEC, PROFILE, CONFIGS[:2], seeds=[4, 2], slo="ttft_p99=2s")
    assert found.seeds == (4, 2)
    assert [column.seeds for column in found.columns] == [(4, 2), (4, 2)]
    alone = replicate(SPEC, PROFILE, CONFIGS[1], [4, 2], slo=parse_slo("ttft_p99=2s"))
    assert all(same(a, b) for a, b in zip(found.columns[1].outcomes, alone.outcomes, strict=True))


@pytest.mark.parametrize(("keep", "kept"), [("none", []), ("first", [4]), ("all", [4, 2])])
def test_runs_are_kept_as_asked(keep: Kept, kept: list[int]) -> None:
    light, full = (sweep(SPEC, PROFILE, [CONFIG], seeds=[4, 2], keep=keep, with_steps=steps) for steps in (False, True))
    assert [run.provenance.seed for run in light.columns[0].runs] == kept
    for run, whole in zip(light.columns[0].runs, full.columns[0].runs, strict=True):
        assert (run.steps, whole.gauges) == (None, None)
        assert run.gauges == gauges(whole)


def test_where_none_starts_the_reason_and_the_advice_are_said() -> None:
    found = sweep(SPEC, PROFILE, [EngineConfig(max_loras=384, max_lora_rank=128)])
    assert "max_loras = 384: the server does not start" in found.none_starts
    assert found.none_starts.endswith("fewer slots (--max-loras) leave more, a smaller --max-model-len needs less")


def test_a_sweep_as_json_has_every_figure_and_no_nan() -> None:
    found = sweep(SPEC, PROFILE, CONFIGS[1:], slo=SLO, keep="first", with_steps=True, intervals=True)
    document = json.loads(json.dumps(found.as_json(adapters=True, series=True), allow_nan=False))
    first, *_, last = document["results"]
    assert first["figures"].keys() == found.columns[0].figures().keys()
    assert first["figures"]["itl_mean_ms"] == {"mean": found.columns[0].summaries[0].itl_mean_ms, "half_width": None}
    assert first["prediction_intervals"]["figures"]["itl_mean_ms"]["low"] < first["figures"]["itl_mean_ms"]["mean"]
    assert [limit["limit"] for limit in first["slo"]] == ["ttft_p99=2s", "tpot_mean=50ms"]
    assert len(first["adapters"]) == SPEC.num_adapters + 1 and len(first["series"]["running"]) == 60
    assert (last["starts"], "figures" in last) == (False, False)
    assert not {"adapters", "series"} & found.as_json()["results"][0].keys()


def test_configurations_have_defaults_that_serve_the_workload() -> None:
    (config,) = server_configs(SPEC, PROFILE)
    assert (config.max_loras, config.max_lora_rank) == (SPEC.num_adapters, 16)
    assert config.gpu_memory_utilization == PROFILE.gpu_memory_utilization
    few, more = server_configs(SPEC, PROFILE, [4, 8], max_lora_rank=64, max_num_seqs=None)
    assert (few.max_loras, more.max_loras, few.max_lora_rank, few.max_num_seqs) == (4, 8, 64, 256)


def test_more_processes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)  # otherwise so little work is not worth a process
    pools: list[int] = []

    class Counted(ProcessPoolExecutor):
        def __init__(self, *arguments: Any) -> None:
            pools.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Counted)
    alone = sweep(SPEC, PROFILE, CONFIGS, slo=SLO, seeds=range(2), keep="all")
    done: list[int] = []
    together = sweep(SPEC, PROFILE, CONFIGS, slo=SLO, seeds=range(2), keep="all", processes=2, progress=done.append)
    assert all(same(a.outcomes, b.outcomes) for a, b in zip(alone.columns, together.columns, strict=True))
    assert [len(column.runs) for column in together.columns] == [2, 2, 2, 2, 0]
    assert [each.chance for each in together.columns[:4]] == [each.chance for each in alone.columns[:4]]
    assert len(pools) == 1  # the forecasts have the processes that are there
    assert done[-1] == 2 * len(CONFIGS)
    assert done == sorted(done)


def test_the_chance_is_that_of_a_forecast() -> None:
    column = sweep(SPEC, PROFILE, [CONFIG], slo=SLO, intervals=True).columns[0]
    known = forecast(SPEC, PROFILE, CONFIG, slo=SLO)
    assert same((column.forecast, column.chance), (known, known.chance))


LONG_SWEEP = """
import faulthandler

from loratwin.simulate import simulate, sweep, workers
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC

if __name__ == "__main__":
    workers.SPAWN_S = 0.0
    simulate(draw(SPEC, 0), PROFILE, CONFIG)  # compiles the kernel, if need be
    faulthandler.dump_traceback_later(240.0)  # of a process that does not end, where it is
    print("started", flush=True)
    try:
        sweep(draw(SPEC.model_copy(update={"window_s": 3600.0}), 0), PROFILE, [CONFIG] * 10_000, processes=2)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
else:
    print("the second process", flush=True)
"""


def wait_until_gone(group: int, limit_s: float = LIMIT_S) -> None:
    """No process of a group is left, or soon none."""
    until = time.monotonic() + limit_s
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.05)
        pytest.fail(f"a process of group {group} is left after {limit_s} s")


def ended(process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> tuple[str, str]:
    """What a process wrote, which ends by itself."""
    try:
        return process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


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
            assert (line_of(process), line_of(process)) == ("started", "the second process")
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
            out, err = ended(process)
            assert (out, err) == ("interrupted\n", "")
            wait_until_gone(process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
