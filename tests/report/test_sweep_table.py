"""A sweep as text: a column for each configuration."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.formatting import figure, span
from loratwin.metrics import parse_slo
from loratwin.records import EngineConfig
from loratwin.report import sweep_text, write_tables
from loratwin.report.sweep_table import sparkline
from loratwin.simulate import Sweep, adapter_rows, sweep
from tests.simulate.servers import CONFIG, PROFILE, SPEC

SLO = parse_slo("ttft_p99=20s,tpot_mean=1ms")
CONFIGS = [CONFIG, CONFIG.replace(max_loras=1), EngineConfig(max_loras=384, max_lora_rank=128)]


@pytest.fixture(scope="module")
def swept() -> Sweep:
    return sweep(
        SPEC, PROFILE, CONFIGS, seeds=range(2), slo=SLO, intervals=True, keep="first", with_steps=True, name="mine"
    )


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each row by its name."""
    parts = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]
    return {name: cells for name, *cells in parts}


def test_every_column_has_its_figures_and_what_does_not_start_says_so(swept: Sweep) -> None:
    text = sweep_text(swept)
    table, column = rows(text), swept.columns[0]
    ttft = column.figures()["ttft_mean_ms"]
    assert table["TTFT mean"][0] == figure(ttft.mean, "ms", ttft.half_width)
    assert table["TTFT mean"][2] == table["starved"][2] == "does not start"
    assert table["KV tokens"][0] == f"{column.kv_tokens:,}"
    assert table["SLO tpot_mean=1ms"][0].endswith("MISSED") and table["SLO ttft_p99=20s"][0].endswith("s")
    assert table["in the middle of real runs"][0].endswith("met")
    assert f"mine: {SPEC.num_adapters} adapters" in text and "seeds 0 to 1" in text
    assert "384 slots: the server does not start" in text


def test_below_a_figure_is_where_a_real_run_will_lie(swept: Sweep) -> None:
    lines = [line.strip() for line in sweep_text(swept).splitlines()]
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("ITL mean")) + 1]
    forecast = swept.columns[0].forecast
    assert forecast is not None
    interval = forecast.intervals["itl_mean_ms"]
    assert below.startswith("90 % of real runs") and span(interval.low, interval.high, "ms") in below


def test_adapters_and_the_course_over_time_are_shown_when_asked_for(swept: Sweep) -> None:
    plain, full = sweep_text(swept), sweep_text(swept, adapters=True, series=True)
    assert full.startswith(plain)
    assert "adapters with 8 slots" not in plain
    assert "over 120 s with 8 slots" in full and "█" in full and "(no adapter)" in full


def test_text_has_no_colours(swept: Sweep) -> None:
    assert "\x1b" not in sweep_text(swept, adapters=True, series=True)


def test_nothing_to_show_is_no_table() -> None:
    assert sweep_text(sweep(SPEC, PROFILE, [])).startswith("workload: ")


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([0, 7], unicode=False) == "_@"


def test_what_keeps_up_behind_a_long_queue_is_called_slow(swept: Sweep) -> None:
    """First tokens a thousand times as late, and nothing starves."""
    column = swept.columns[0]
    late = tuple(
        replace(outcome, summary=replace(outcome.summary, ttft_p99_ms=60e3, starved=False))
        for outcome in column.outcomes
        if outcome.summary is not None
    )
    slow = replace(swept, columns=(replace(column, outcomes=late),))
    assert rows(sweep_text(slow))["starved"] == ["no, but slow"]
    assert not column.num_starved and rows(sweep_text(swept))["starved"][0] == "no"


def test_every_table_as_csv_has_all_digits_and_units(swept: Sweep, tmp_path: Path) -> None:
    names = [path.name for path in write_tables(swept, tmp_path / "tables")]
    assert names == [
        "configurations.csv", "adapters-max_loras-8.csv", "series-max_loras-8.csv", "adapters-max_loras-1.csv",
        "series-max_loras-1.csv",
    ]  # fmt: skip
    configurations = read_csv(tmp_path / "tables" / names[0])
    ttft = swept.columns[1].figures()["ttft_mean_ms"]
    assert [float(configurations[1][key]) for key in ("ttft_mean_ms", "ttft_mean_ms_half_width")] == pytest.approx(
        [ttft.mean, ttft.half_width], rel=1e-5
    )
    assert configurations[0]["total_throughput_tokens_per_s_half_width"] and configurations[0]["slo_ttft_p99_s"]
    assert configurations[2]["starts"] == "false" and configurations[2]["why_not"] == swept.columns[2].reason
    adapters = read_csv(tmp_path / "tables" / names[1])
    assert len(adapters) == len(adapter_rows(swept.columns[0].runs[0]))
    assert adapters[0]["throughput_tokens_per_s"]
    assert float(read_csv(tmp_path / "tables" / names[2])[-1]["end_s"]) == SPEC.window_s


def test_configurations_of_equal_slots_have_files_of_their_own(tmp_path: Path) -> None:
    few = [CONFIG, CONFIG.replace(max_num_seqs=8)]
    done = sweep(SPEC, PROFILE, few, keep="first")
    assert len({path.name for path in write_tables(done, tmp_path)}) == 3


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
