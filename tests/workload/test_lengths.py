"""Lengths have the distribution asked for, and exactly the mean: bounds and whole tokens included."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import interpolate, stats
from scipy.stats import norm, rankdata

from loratwin.workload import (
    Fixed,
    Histogram,
    Lognormal,
    SampledLengths,
    Separate,
    ShareGpt,
    Uniform,
    WorkloadSpec,
    draw,
)
from loratwin.workload.sharegpt import monotone_cubic, original_lengths, scaled_table
from loratwin.workload.streams import stream
from loratwin.workload.tables import TABLE_SIZE, normal_quantiles, scaled_to_mean, whole_tokens

SIDES = ("prompt", "output")


def published(side: str) -> Any:
    return json.loads(files("loratwin.workload").joinpath("data/sharegpt.json").read_text())[side]


def draws(lengths: ShareGpt | Separate, num: int = 100_000) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return lengths.draw(stream(3, "g", "prompt"), stream(3, "g", "output"), num)


def assert_mean(values: NDArray[np.int32], mean: float) -> None:
    assert values.mean() == pytest.approx(mean, abs=3 * values.std() / np.sqrt(len(values)))


class TestShareGpt:
    @pytest.mark.parametrize("side", SIDES)
    def test_has_the_published_counts(self, side: str) -> None:
        data = published(side)
        counts, _ = np.histogram(np.floor(original_lengths(side) + 0.5), data["edges"])
        assert counts / TABLE_SIZE == pytest.approx(np.array(data["counts"]) / np.sum(data["counts"]), abs=3e-5)

    @pytest.mark.parametrize("side", SIDES)
    def test_has_the_published_quarter_and_nearly_the_published_mean(self, side: str) -> None:
        data, lengths = published(side), original_lengths(side)
        assert np.quantile(lengths, 0.25) == pytest.approx(data["quarter"], abs=0.6)
        assert lengths.mean() == pytest.approx(data["mean"], rel=0.01)

    def test_third_quarters_are_near_those_published(self) -> None:
        """423 and 358 tokens (arXiv 2508.08343, repository); not used in making the distribution."""
        assert np.quantile(original_lengths("prompt"), 0.75) == pytest.approx(423, rel=0.02)
        assert np.quantile(original_lengths("output"), 0.75) == pytest.approx(358, rel=0.02)

    def test_short_prompts_are_not_evenly_spread_in_the_first_bin(self) -> None:
        lengths = original_lengths("prompt")
        assert np.mean(lengths < 14) > 1.5 * np.mean((lengths >= 28) & (lengths < 38))

    def test_stays_within_the_filter(self) -> None:
        assert original_lengths("prompt").min() >= 4 and original_lengths("prompt").max() <= 1024
        assert original_lengths("output").min() >= 4
        prompt, output = draws(ShareGpt(), 1_000_000)
        assert (prompt + output).max() <= 2048

    def test_an_output_is_cut_beside_a_long_prompt_as_the_filter_would(self) -> None:
        class Longest:
            """Stands in for a generator: always the longest entry of the table."""

            def integers(self, low: int, high: int, num: int, dtype: type) -> NDArray[np.uint16]:
                return np.full(num, high - 1, dtype=dtype)

        longest: Any = Longest()
        prompt, output = ShareGpt(prompt_mean=502, output_mean=463, correlation=0).draw(longest, longest, 3)
        factor = np.array([502, 463]) / [original_lengths(side).mean() for side in SIDES]
        together = prompt / factor[0] + output / factor[1]
        assert together == pytest.approx(2048, abs=2)  # 2115 without the cut; whole tokens account for 2

    @pytest.mark.parametrize("mean", [1.5, 20, 196.4965, 222.7436, 250.9, 5000])
    @pytest.mark.parametrize("side", SIDES)
    def test_tables_have_the_mean_asked_for(self, side: str, mean: float) -> None:
        table = scaled_table(side, mean)
        assert table.mean() == pytest.approx(mean, rel=2e-4)
        assert table.min() >= 1
        assert not table.flags.writeable

    def test_draws_have_the_means_asked_for(self) -> None:
        prompt, output = draws(ShareGpt(prompt_mean=222.7436, output_mean=196.1189))
        assert_mean(prompt, 222.7436)
        assert_mean(output, 196.1189)

    @pytest.mark.parametrize("correlation", [-0.9, -0.36, 0, 0.5])
    def test_ranks_have_the_correlation_asked_for(self, correlation: float) -> None:
        prompt, output = draws(ShareGpt(correlation=correlation))
        scores = [norm.ppf((rankdata(side) - 0.5) / len(side)) for side in (prompt, output)]
        assert np.corrcoef(scores)[0, 1] == pytest.approx(correlation, abs=0.015)

    def test_a_running_request_holds_as_many_tokens_as_measured(self) -> None:
        """361 KV tokens, half a block of 16 included, over the open runs of `serving_*.csv` (see CORRELATION)."""
        prompt, output = draws(ShareGpt(prompt_mean=222.7, output_mean=194.2), 1_000_000)
        held = np.average(prompt + output / 2, weights=output) + 8
        assert held == pytest.approx(361, rel=0.01)

    def test_default_means_are_the_published_ones(self) -> None:
        prompt, output = draws(ShareGpt())
        assert_mean(prompt, 250.9)
        assert_mean(output, 231.5)

    def test_scaling_keeps_the_shape(self) -> None:
        lengths = original_lengths("prompt")
        assert np.abs(scaled_table("prompt", 2509) - lengths * 2509 / lengths.mean()).max() <= 1.01


class TestLognormal:
    def test_median_and_sigma(self) -> None:
        table = Lognormal(median=300, sigma=0.7).table()
        assert np.median(table) == pytest.approx(300, abs=1)
        assert np.log(table).std() == pytest.approx(0.7, abs=0.005)
        assert stats.kstest(np.log(table[::16]), "norm", args=(np.log(300), 0.7)).statistic < 0.01

    def test_mean_and_std(self) -> None:
        table = Lognormal(mean=400, std=300).table()
        assert table.mean() == pytest.approx(400, rel=1e-4)
        assert table.std() == pytest.approx(300, rel=0.01)

    @pytest.mark.parametrize(("low", "high"), [(1, 500), (300, 10_000), (390, 401)])
    def test_the_mean_holds_after_cutting(self, low: int, high: int) -> None:
        table = Lognormal(mean=400, std=600, min=low, max=high).table()
        assert table.mean() == pytest.approx(400, rel=1e-4)
        assert table.min() == low or low == 1
        assert table.max() == high or high == 10_000

    def test_a_median_is_only_cut(self) -> None:
        table = Lognormal(median=100, sigma=1, min=50, max=200).table()
        assert (table.min(), table.max()) == (50, 200)
        assert np.median(table) == pytest.approx(100, abs=1)


class TestHistogram:
    bins = ((10, 20, 1), (20, 21, 2), (40, 60, 1))

    def test_bins_have_their_counts_and_are_even_inside(self) -> None:
        table = Histogram(bins=self.bins).table()
        assert set(np.unique(table)) == {*range(10, 20), 20, *range(40, 60)}
        assert np.mean(table == 20) == pytest.approx(0.5, abs=1e-4)
        assert np.mean(table == 13) == pytest.approx(0.025, abs=1e-4)
        assert np.mean(table >= 40) == pytest.approx(0.25, abs=1e-4)

    def test_can_be_scaled(self) -> None:
        assert Histogram(bins=self.bins, mean=333.3).table().mean() == pytest.approx(333.3, rel=1e-4)

    def test_unsorted_bins_with_gaps_mean_the_same(self) -> None:
        turned = Histogram(bins=((40, 60, 1), (70, 80, 0), (20, 21, 2), (10, 20, 1)))
        assert np.sort(turned.table()).tolist() == pytest.approx(np.sort(Histogram(bins=self.bins).table()), abs=1)
        assert Histogram(bins=turned.bins, mean=100).table().mean() == pytest.approx(100, rel=1e-4)

    def test_from_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "h.csv"
        path.write_text("lo,hi,count\n10,20,1\n20,21,2\n40,60,1\n")
        assert np.array_equal(Histogram(path=path).table(), Histogram(bins=self.bins).table())


class TestSamples:
    def test_each_is_equally_likely(self) -> None:
        prompt, _ = draws(Separate(prompt=SampledLengths(values=(3, 3, 9)), output=1))
        assert set(prompt.tolist()) == {3, 9}
        assert np.mean(prompt == 3) == pytest.approx(2 / 3, abs=0.005)

    def test_can_be_scaled(self) -> None:
        table = SampledLengths(values=(3, 3, 9), mean=37.3).table()
        assert table.mean() == pytest.approx(37.3, rel=1e-4)
        assert np.mean(table < 40) == pytest.approx(2 / 3, abs=1e-4)

    def test_from_a_column(self, tmp_path: Path) -> None:
        path = tmp_path / "s.csv"
        path.write_text("id,tokens\na,7\nb,8\n")
        assert SampledLengths(path=path, column="tokens").table().tolist() == [7, 8]


def test_uniform_is_even_from_min_to_max() -> None:
    prompt, _ = draws(Separate(prompt=Uniform(min=5, max=14), output=1))
    assert stats.chisquare(np.bincount(prompt, minlength=15)[5:]).pvalue > 0.01
    assert (prompt.min(), prompt.max()) == (5, 14)


def test_fixed_and_a_bare_number_are_the_same() -> None:
    prompt, output = draws(Separate(prompt=Fixed(tokens=12), output=12), 5)
    assert prompt.tolist() == output.tolist() == [12] * 5
    assert prompt.dtype == output.dtype == np.int32


def test_prompts_and_outputs_are_independent() -> None:
    law = Lognormal(mean=100, std=50)
    prompt, output = draws(Separate(prompt=law, output=law))
    assert abs(np.corrcoef(prompt, output)[0, 1]) < 0.01


def test_a_group_without_lengths_has_those_of_the_workload() -> None:
    groups = [
        {"name": "own", "count": 1, "rate": 1, "lengths": {"prompt": 5, "output": 6}},
        {"name": "shared", "count": 1, "rate": 1},
    ]
    workload = draw(WorkloadSpec(window_s=50, lengths={"prompt": 7, "output": 8}, groups=groups))
    assert set(workload.prompt_tokens[workload.adapter == 0]) == {5}
    assert set(workload.output_tokens[workload.adapter == 0]) == {6}
    assert set(workload.prompt_tokens[workload.adapter == 1]) == {7}
    assert set(workload.output_tokens[workload.adapter == 1]) == {8}


def test_rounding_keeps_the_mean_and_moves_nothing_by_a_token() -> None:
    lengths = np.sort(np.random.default_rng(1).uniform(1, 3, 10_000))
    whole = whole_tokens(lengths)
    assert whole.mean() == pytest.approx(lengths.mean(), rel=2e-4)
    assert np.all(np.abs(whole - lengths) < 1)


def test_scaling_agrees_with_cutting_literally() -> None:
    lengths = np.sort(np.random.default_rng(1).lognormal(3, 1, 500))
    scaled = scaled_to_mean(lengths, 60, 20, 90)
    assert scaled.mean() == pytest.approx(60, rel=1e-8)
    inside = (scaled > 20) & (scaled < 90)
    factor = scaled[inside] / lengths[inside]
    assert np.ptp(factor) < 1e-9
    assert scaled == pytest.approx(np.clip(lengths * factor[0], 20, 90))


def test_normal_quantiles_agree_with_scipy() -> None:
    middles = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE
    assert np.abs(normal_quantiles() - stats.norm.ppf(middles)).max() < 1e-4


def test_monotone_cubic_agrees_with_scipy_inside() -> None:
    x, y = np.array([0.0, 1, 3, 4, 9, 10]), np.array([0.0, 2, 3, 7, 8, 8.5])
    at = np.linspace(1, 9, 200)  # at both ends scipy takes other slopes
    assert monotone_cubic(x, y, at) == pytest.approx(interpolate.PchipInterpolator(x, y)(at), abs=1e-12)
    everywhere = monotone_cubic(x, y, np.linspace(0, 10, 1000))
    assert np.all(np.diff(everywhere) > 0) and everywhere[[0, -1]].tolist() == [0, 8.5]
