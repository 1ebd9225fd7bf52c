"""What the figures are drawn from."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from loratwin.records import StepSeries
from loratwin.report.plan_figures import _edges, _ticks, binned, by_slots
from loratwin.report.svg import inline_svg
from tests.plan.candidates import candidate, not_starting


def steps(start_s: list[float], duration_s: list[float], running: list[int]) -> StepSeries:
    zeros: Any = np.zeros(len(start_s), dtype=np.int32)
    others = ("decode_requests", "prefill_tokens", "waiting", "distinct_adapters", "kv_blocks", "swap_ins")
    return StepSeries(
        start_s=np.array(start_s),
        duration_s=np.array(duration_s),
        running=np.array(running, dtype=np.int32),
        disk_loads=zeros,
        **dict.fromkeys(others, zeros),
    )


def test_bins_are_means_over_time_and_idle_time_counts_as_none() -> None:
    series = steps([0.0, 1.0, 3.0], [1.0, 1.0, 1.0], [4, 2, 8])  # idle from 2 to 3
    assert binned(series, series.running, 4.0, 4) == pytest.approx([4, 2, 0, 8])
    assert binned(series, series.running, 4.0, 2) == pytest.approx([3, 4])
    assert binned(series, series.running, 3.5, 1) == pytest.approx([(4 + 2 + 0 + 4) / 3.5])


def test_bins_of_many_steps_keep_the_total() -> None:
    rng = np.random.default_rng(1)
    duration = rng.exponential(0.01, 5000)
    start = np.cumsum(duration + rng.exponential(0.005, 5000)) - duration
    series = steps(list(start), list(duration), list(rng.integers(0, 50, 5000)))
    end = float(start[-1] + duration[-1])
    means = binned(series, series.running, end, 100)
    assert means.mean() * end == pytest.approx(float((series.running * duration).sum()))


def test_the_shaded_part_lies_halfway_to_the_neighbours() -> None:
    assert _edges([8, 32]) == pytest.approx([4, 16, 64])
    assert _edges([8]) == pytest.approx([8 / 2**0.5, 8 * 2**0.5])


def test_the_chosen_slots_are_always_named() -> None:
    ticks = _ticks([8, 16, 32, 40, 44, 48, 64], 44)
    assert 44 in ticks
    assert all(b / a > 1.3 for a, b in pairwise(ticks))


def test_nothing_is_drawn_where_nothing_starts() -> None:
    assert by_slots([not_starting(8)], None) == []


def test_a_single_configuration_and_unknown_figures_can_be_drawn() -> None:
    assert len(by_slots([candidate(8), not_starting(16)], None)) == 4


def test_svg_ids_begin_with_its_name() -> None:
    figure = Figure()
    figure.subplots().set_title("a < b & $c$")
    text = inline_svg(figure, "mine", 'what "it" shows')
    assert text.startswith("<svg ")
    assert text.endswith("</svg>")
    assert 'aria-label="what &quot;it&quot; shows"' in text
    assert 'id="mine-figure_1"' in text
    assert "a &lt; b &amp; $c$" in text
    assert "<metadata>" not in text
