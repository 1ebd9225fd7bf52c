"""Each arrival process has the gaps, the variance over time and the correlations that its theory says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from loratwin.errors import InputError
from loratwin.workload import Diurnal, Workload
from loratwin.workload.arrays import arrival_order
from tests.workload.statistics import (
    F8,
    counts,
    dispersion,
    lag_one,
    one_group,
    pooled_gaps,
    times_by_adapter,
)

KINDS = {
    "poisson": "poisson",
    "deterministic": "deterministic",
    "gamma": {"kind": "gamma", "cv": 2.5},
    "on_off": {"kind": "on_off", "on_s": 30, "off_s": 90},
    "on_off together": {"kind": "on_off", "on_s": 3, "off_s": 9, "together": True},
    "diurnal": {"kind": "diurnal", "amplitude": 0.8, "period_s": 900},
    "diurnal list": {"kind": "diurnal", "relative_rates": [1, 0, 3]},
}


LONG_RUN_DISPERSION = {"gamma": 2.5**2, "on_off": 271, "on_off together": 28}  # of the fastest adapter


@pytest.mark.parametrize("kind", KINDS)
def test_sorted_in_the_window_and_with_the_mean_rate_of_each_adapter(kind: str) -> None:
    rates = [0.0, 0.02, 0.5, 2.0]
    workloads = [one_group(3600, seed, count=4, rates=rates, arrivals=KINDS[kind]) for seed in range(12)]
    num = np.sum([np.bincount(w.adapter, minlength=4) for w in workloads], axis=0)
    for workload in workloads:
        assert np.all(np.diff(workload.arrival_s) >= 0)
        assert workload.arrival_s[0] >= 0 and workload.arrival_s[-1] < 3600
        assert workload.adapters.rate_per_s.tolist() == rates
    expected = np.array(rates) * 3600 * len(workloads)
    assert num[0] == 0
    assert np.all(np.abs(num - expected) <= 3.5 * np.sqrt(expected * LONG_RUN_DISPERSION.get(kind, 1)))


class TestPoisson:
    workload = one_group(50_000, count=5, rates=[0.02, 0.05, 0.1, 0.2, 0.4], arrivals="poisson")

    def test_gaps_of_each_adapter_are_exponential(self) -> None:
        for times, rate in zip(times_by_adapter(self.workload), self.workload.adapters.rate_per_s, strict=True):
            assert stats.kstest(np.diff(times), "expon", args=(0, 1 / rate)).pvalue > 0.01
            assert abs(lag_one(np.diff(times))) < 3 / np.sqrt(len(times))

    def test_merged_gaps_are_exponential_and_independent(self) -> None:
        gaps = np.diff(self.workload.arrival_s)
        assert stats.kstest(gaps, "expon", args=(0, 1 / 0.77)).pvalue > 0.01
        assert abs(lag_one(gaps)) < 3 / np.sqrt(len(gaps))

    @pytest.mark.parametrize("bin_s", [5, 50, 250])
    def test_variance_of_counts_is_their_mean(self, bin_s: float) -> None:
        assert dispersion(self.workload, bin_s, merged=True) == pytest.approx(1, abs=4 * np.sqrt(2 * bin_s / 50_000))
        for times in times_by_adapter(self.workload):
            binned = counts(times, 50_000, bin_s)
            assert binned.var() / binned.mean() == pytest.approx(1, abs=0.06 + 4 * np.sqrt(2 * bin_s / 50_000))

    def test_the_number_in_the_window_varies_as_much_as_in_a_bin(self) -> None:
        adapters = np.bincount(one_group(100, count=3000, rate=0.2).adapter, minlength=3000)
        assert adapters.var() / adapters.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 3000))
        seeds = np.array([one_group(100, seed, count=2, rate=0.2).num_requests for seed in range(300)])
        assert seeds.var() / seeds.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 300))

    def test_counts_do_not_remember_the_bin_before(self) -> None:
        assert abs(lag_one(counts(self.workload.arrival_s, 50_000, 10))) < 3 / np.sqrt(5000)

    def test_each_request_picks_its_adapter_anew(self) -> None:
        share = self.workload.adapters.rate_per_s / self.workload.adapters.rate_per_s.sum()
        same = np.mean(self.workload.adapter[1:] == self.workload.adapter[:-1])
        assert same == pytest.approx((share**2).sum(), abs=0.01)


class TestGamma:
    @pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
    def test_gaps_are_gamma_and_independent(self, cv: float) -> None:
        gaps = pooled_gaps(one_group(40_000, count=3, rate=0.2, arrivals={"kind": "gamma", "cv": cv}))
        law = stats.gamma(cv**-2, scale=5 * cv**2)
        seen = gaps[gaps > 1e-6]  # with cv 3 one gap in seven is shorter, lost beside times of 40,000 s
        assert len(seen) / len(gaps) == pytest.approx(law.sf(1e-6), abs=0.01)
        assert stats.kstest(seen, lambda gap: 1 - law.sf(gap) / law.sf(1e-6)).pvalue > 0.01
        assert abs(lag_one(gaps)) < 3 / np.sqrt(len(gaps))

    @pytest.mark.parametrize("cv", [0.3, 3.0])
    def test_variance_of_counts_grows_to_cv_squared(self, cv: float) -> None:
        workload = one_group(40_000, count=60, rate=0.2, arrivals={"kind": "gamma", "cv": cv})
        assert dispersion(workload, 2000) == pytest.approx(cv**2, rel=0.12)
        assert dispersion(workload, 2000, merged=True) == pytest.approx(cv**2, rel=0.9)

    def test_many_regular_adapters_together_look_random_for_a_while(self) -> None:
        workload = one_group(4000, count=100, rate=0.2, arrivals={"kind": "gamma", "cv": 0.3})
        assert dispersion(workload, 0.05, merged=True) == pytest.approx(1, abs=0.03)
        assert dispersion(workload, 100, merged=True) < 0.3

    def test_stationary_from_the_start(self) -> None:
        """Starting with a whole gap would give (cv^2 - 1)/2 = 12 requests more in this window, most of them early."""
        workload = one_group(1000, count=3000, rate=0.01, arrivals={"kind": "gamma", "cv": 5})
        assert workload.num_requests / 3000 == pytest.approx(10, abs=4 * np.sqrt(10 * 25 / 3000))
        early = np.mean(workload.arrival_s < 100)
        assert early == pytest.approx(0.1, abs=0.015)


class TestDeterministic:
    workload = one_group(1000, count=400, rate=0.05, arrivals="deterministic")

    def test_gaps_are_all_the_same(self) -> None:
        assert pooled_gaps(self.workload) == pytest.approx(20, rel=1e-9)
        assert np.unique(np.bincount(self.workload.adapter)).tolist() == [50]

    def test_the_first_request_comes_at_a_random_moment(self) -> None:
        first = [times[0] for times in times_by_adapter(self.workload)]
        assert stats.kstest(first, "uniform", args=(0, 20)).pvalue > 0.01


class TestOnOff:
    on_s, off_s, rate = 20.0, 60.0, 0.5

    def group(self, window_s: float, count: int, together: bool = False) -> Workload:
        arrivals = {"kind": "on_off", "on_s": self.on_s, "off_s": self.off_s, "together": together}
        return one_group(window_s, count=count, rate=self.rate, arrivals=arrivals)

    def expected_dispersion(self, bin_s: float, rate: float) -> float:
        """Var / mean of a Poisson process switched by a two-state Markov chain (Fischer and Meier-Hellstern 1993)."""
        switch = 1 / self.on_s + 1 / self.off_s
        off_share = self.off_s / (self.on_s + self.off_s)
        rate_on = rate / (1 - off_share)
        return 1 + 2 * rate_on * off_share / switch * (1 - (1 - np.exp(-switch * bin_s)) / (switch * bin_s))

    def hyperexponential(self, gaps: F8) -> F8:
        """Gaps of an interrupted Poisson process are independent, with two exponential phases (Kuczura 1973)."""
        rate_on = self.rate * (self.on_s + self.off_s) / self.on_s
        total = rate_on + 1 / self.on_s + 1 / self.off_s
        root = np.sqrt(total**2 - 4 * rate_on / self.off_s)
        fast, slow = (total + root) / 2, (total - root) / 2
        share = (rate_on - slow) / (fast - slow)
        return 1 - share * np.exp(-fast * gaps) - (1 - share) * np.exp(-slow * gaps)

    def test_gaps_are_hyperexponential_and_independent(self) -> None:
        gaps = pooled_gaps(self.group(20_000, 8))
        assert stats.kstest(gaps, self.hyperexponential).pvalue > 0.01
        assert abs(lag_one(gaps)) < 3 / np.sqrt(len(gaps))

    @pytest.mark.parametrize("bin_s", [2, 20, 200])
    def test_variance_of_counts_follows_the_bursts(self, bin_s: float) -> None:
        workload = self.group(20_000, 100)
        assert dispersion(workload, bin_s) == pytest.approx(self.expected_dispersion(bin_s, self.rate), rel=0.06)
        assert dispersion(workload, bin_s, merged=True) == pytest.approx(
            self.expected_dispersion(bin_s, self.rate), rel=0.5
        )

    def test_together_the_whole_group_bursts(self) -> None:
        workload = self.group(40_000, 5, together=True)
        expected = self.expected_dispersion(20, 5 * self.rate)
        assert dispersion(workload, 20, merged=True) == pytest.approx(expected, rel=0.15)
        assert dispersion(workload, 20) == pytest.approx(self.expected_dispersion(20, self.rate), rel=0.15)

    def test_counts_remember_the_bin_before(self) -> None:
        workload = self.group(20_000, 1)
        assert lag_one(counts(workload.arrival_s, 20_000, 10)) > 0.3

    def test_stationary_from_the_start(self) -> None:
        workload = self.group(400, 4000)
        early = counts(workload.arrival_s, 400, 20)
        assert early / early.mean() == pytest.approx(1, abs=0.06)

    def test_without_off_periods_it_is_poisson(self) -> None:
        workload = one_group(20_000, count=2, rate=0.4, arrivals={"kind": "on_off", "on_s": 5, "off_s": 0})
        assert stats.kstest(pooled_gaps(workload), "expon", args=(0, 2.5)).pvalue > 0.01


class TestDiurnal:
    def test_the_rate_follows_the_sine(self) -> None:
        arrivals = {"kind": "diurnal", "amplitude": 0.6, "period_s": 1000, "peak_s": 250}
        workload = one_group(2500, count=4, rate=8, arrivals=arrivals)
        edges = np.linspace(0, 2500, 26)
        expected = np.diff(edges + 0.6 * np.sin(2 * np.pi * (edges - 250) / 1000) * 1000 / (2 * np.pi))
        expected *= workload.num_requests / expected.sum()
        assert stats.chisquare(np.histogram(workload.arrival_s, edges)[0], expected).pvalue > 0.01

    def test_the_rate_follows_the_list(self) -> None:
        workload = one_group(400, count=3, rate=10, arrivals={"kind": "diurnal", "relative_rates": [1, 0, 2, 5]})
        num = counts(workload.arrival_s, 400, 100)
        assert num[1] == 0
        assert num / num.sum() == pytest.approx([1 / 8, 0, 2 / 8, 5 / 8], abs=0.02)

    def test_seen_on_its_own_clock_it_is_poisson(self) -> None:
        """Time rescaling: with time measured in expected requests, gaps are exponential and independent."""
        arrivals = {"kind": "diurnal", "amplitude": 0.9}
        workload = one_group(5000, count=3, rate=1, arrivals=arrivals)
        time, expected = Diurnal.model_validate(arrivals).cumulative(5000)
        for times in [workload.arrival_s, *times_by_adapter(workload)]:
            gaps = np.diff(np.interp(times, time, expected))
            assert stats.kstest(gaps, "expon", args=(0, 1 / len(times))).pvalue > 0.01
            assert abs(lag_one(gaps)) < 3 / np.sqrt(len(gaps))
        assert dispersion(workload, 250, merged=True) > 10

    def test_the_peak_is_in_the_middle_by_default(self) -> None:
        workload = one_group(1000, count=1, rate=20, arrivals={"kind": "diurnal", "amplitude": 1})
        assert workload.arrival_s.mean() == pytest.approx(500, abs=10)
        assert workload.arrival_s.std() < 200  # 289 for a constant rate


def test_a_zero_rate_never_asks() -> None:
    for arrivals in KINDS.values():
        assert one_group(100, count=2, rate=0, arrivals=arrivals).num_requests == 0


def test_simultaneous_requests_are_in_order_of_adapter() -> None:
    workload = one_group(100, count=50, rate=1, arrivals="deterministic")
    spec_times = np.round(workload.arrival_s, 1)  # many equal times
    shuffled = np.random.default_rng(0).permutation(len(spec_times))
    times, adapter = spec_times[shuffled], workload.adapter[shuffled]
    order = arrival_order(times, adapter)
    keys = list(zip(times[order].tolist(), adapter[order].tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(set(times.tolist())) < len(times)


def test_a_seed_must_not_be_negative() -> None:
    with pytest.raises(InputError, match="seed = -1"):
        one_group(10, seed=-1, count=1, rate=1)
