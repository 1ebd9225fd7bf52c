"""What the figures are drawn from."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from loratwin.metrics import parse_slo
from loratwin.records import StepSeries
from loratwin.report.plan_figures import _ticks, binned, by_slots, frontier_figures, starting
from loratwin.report.svg import Spot, inline_svg
from tests.plan.candidates import candidate, not_starting, value


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


def test_the_chosen_slots_are_always_named() -> None:
    ticks = _ticks([8, 16, 32, 40, 44, 48, 64], 44)
    assert 44 in ticks
    assert all(b / a > 1.3 for a, b in pairwise(ticks))


def test_nothing_is_drawn_where_nothing_starts() -> None:
    assert by_slots(starting([not_starting(8)], None, None)) == []
    assert frontier_figures(starting([not_starting(8)], None, None)) == []


def test_a_single_configuration_and_unknown_figures_can_be_drawn() -> None:
    assert len(by_slots(starting([candidate(8), not_starting(16)], None, None))) == 6


def test_every_configuration_is_drawn_and_says_what_it_is() -> None:
    few, many, other = candidate(8), candidate(32), candidate(8, seqs=64)
    pictures = by_slots(starting([few, many, other], few, None))
    for picture in (pictures[0], pictures[1], pictures[3], pictures[5]):  # the others' figures are unknown
        says = re.findall("<title>(.*?)</title>", picture, re.DOTALL)
        assert sum(title.count(" slots, max_num_seqs") for title in says) == 3
        for words in ("8 slots, max_num_seqs 256: chosen", "32 slots, max_num_seqs 256", "8 slots, max_num_seqs 64"):
            assert sum(words in title for title in says) == 1


def test_what_misses_the_slo_is_a_red_cross_below_its_limit() -> None:
    slo = parse_slo("ttft_mean=1s")
    late = replace(candidate(8), slo_s={"ttft_mean": value(2.0)})
    pictures = by_slots(starting([late], None, slo))
    assert "var(--red)" in pictures[0]
    assert [">SLO<" in picture for picture in pictures] == [False, True, False, False, False, False]


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


def test_a_place_is_where_its_point_is_drawn() -> None:
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot([3.0], [7.0], "o", markersize=1)
    axes.set(xlim=(0, 10), ylim=(0, 10))
    text = inline_svg(figure, "one", "a dot", [Spot(axes, "3 <and> 7", 3.0, 7.0), Spot(axes, "same", 3.0, 7.0)])
    (drawn,) = re.findall(r'<use xlink:href="#one-m\w+" x="([\d.]+)" y="([\d.]+)" style="[^"]*fill: #1f77b4', text)
    (circle,) = re.findall(r'<circle class="spot" cx="([\d.]+)" cy="([\d.]+)"', text)
    assert [float(each) for each in circle] == pytest.approx([float(each) for each in drawn], abs=0.1)
    assert "<title>3 &lt;and&gt; 7\n\nsame</title>" in text
