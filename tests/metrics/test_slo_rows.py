"""The SLO of every customer: on runs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.metrics import parse_slo
from loratwin.metrics.slo_rows import check_slo_for, missing_rows, slo_rows
from loratwin.records import AdapterTable, EngineConfig, Provenance, RequestTable, Run

WINDOW_S = 1000.0


def run(ttft_s: dict[str, list[float]], tokens: int = 11, tpot_s: float = 0.02) -> Run:
    """Requests of each adapter with these times to first token, NaN: no answer; all arrive in the first half."""
    names = [name for name in ttft_s if name]
    rows = [(names.index(name) if name else -1, value) for name, values in ttft_s.items() for value in values]
    arrival = np.linspace(0, WINDOW_S / 2, len(rows))
    first = arrival + np.array([value for _, value in rows])
    num = len(rows)
    requests = RequestTable(
        arrival_s=arrival, admitted_s=first, first_token_s=first, finish_s=first + tpot_s * (tokens - 1),
        adapter=np.array([adapter for adapter, _ in rows], np.int32), prompt_tokens=np.full(num, 10, np.int32),
        output_tokens=np.full(num, tokens, np.int32), num_preemptions=np.zeros(num, np.int32),
        refused=np.zeros(num, bool),
    )  # fmt: skip
    adapters = AdapterTable(tuple(names), np.full(len(names), 8, np.int32), np.full(len(names), 0.1))
    return Run(
        kind="simulated", config=EngineConfig(max_loras=4), requests=requests, adapters=adapters, window_s=WINDOW_S,
        kv_tokens=1000, provenance=Provenance(),
    )  # fmt: skip


def test_busy_customers_hide_a_slow_one() -> None:
    slo = parse_slo("ttft_p99=2s")
    both = run({"busy": [0.1] * 19_900, "slow": [0.1] * 90 + [9.0] * 110})
    assert not slo.missed(both)
    rows = slo_rows(both, slo)
    assert rows.missing == ("slow",)
    assert rows.value_s[0].tolist() == [pytest.approx(0.1), pytest.approx(9.0)]
    assert slo_rows(both, slo, "all").num_missing == 0


def test_a_percentile_of_few_requests_is_undecided_unless_more_are_late_than_chance_makes() -> None:
    """Of 20 requests within a p99, one is late with probability 0.18, two with 0.017."""
    rows = slo_rows(run({"one": [0.1] * 19 + [9.0], "two": [0.1] * 18 + [9.0] * 2, "none": [0.1] * 20, "silent": []}),
                    parse_slo("ttft_p99=2s"))  # fmt: skip
    assert rows.missing == ("two",)
    assert rows.undecided[0].tolist() == [True, False, True, True]
    assert rows.num_undecided == 3
    enough = slo_rows(run({"one": [0.1] * 99 + [9.0]}), parse_slo("ttft<2s:99%"))
    assert enough.num_missing == enough.num_undecided == 0


def test_a_share_counts_those_who_still_wait() -> None:
    waiting = [0.1] * 97 + [np.nan] * 3
    slo = parse_slo("ttft<2s:98%")
    assert slo_rows(run({"a": waiting}), slo).missing == ("a",)
    assert slo.limits[0].value_s(run({"a": waiting})) == np.inf
    assert parse_slo("ttft<2s:97%").missed(run({"a": waiting})) == ()
    assert not slo_rows(run({"a": waiting}), parse_slo("ttft_p99=2s")).num_missing  # of the finished alone
    assert parse_slo("ttft<1000s:98%").missed(run({"a": waiting})) == ()  # nobody knows yet


def test_who_was_never_served_misses() -> None:
    rows = slo_rows(run({"a": [np.nan] * 200, "b": [0.1] * 200}), parse_slo("ttft_mean=1s,tpot_p50=1s"))
    assert rows.missing == ("a",)
    assert rows.missed[:, 0].all()


def test_groups_are_judged_as_a_whole_and_the_base_by_itself() -> None:
    both = run({"a": [0.1] * 100, "b": [9.0] * 2, "c": [9.0] * 50, "": [9.0] * 10})
    group = np.array([0, 0, 1], np.int32)
    rows = slo_rows(both, parse_slo("ttft_p95=2s"), "groups", group, ("first", "second"))
    assert rows.name == ("first", "second", "(no adapter)")
    assert rows.missing == ("second", "(no adapter)")
    assert rows.requests.tolist() == [102, 50, 10]


def test_a_share_is_written_as_it_is_read() -> None:
    slo = parse_slo("ttft<2s:99%, tpot_p99=100ms, ttft<500ms:90%")
    assert str(slo) == "ttft<2s:99%,tpot_p99=100ms,ttft<500ms:90%"
    assert slo.per_request_s() == {"ttft": 0.5, "tpot": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft<2s", "no share of requests; write ttft<2s:99%"),
        ("ttft<2s:most", "'most' is not a share; write 99%"),
        ("ttft<2s:100%", "100% of the requests; the share must be above 0 and below 100 %"),
        ("fun<2s:99%", "unknown metric 'fun'"),
        ("ttft<2h:99%", "unknown unit 'h'"),
        ("ttft<2s:99%,ttft<2s:99%", "ttft<2s:99% is given twice"),
    ],
)
def test_bad_shares_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_slo(text)


def test_of_whom_is_one_of_three() -> None:
    with pytest.raises(UnknownNameError, match="unknown SLO's reach .* 'everyone'"):
        check_slo_for("everyone")


@pytest.mark.parametrize("text", ["ttft_p50=1s", "ttft_p99=2s", "ttft_p90=0.9s", "ttft_mean=1s", "ttft<1.2s:90%"])
@pytest.mark.parametrize("seed", range(4))
def test_who_misses_is_counted_as_the_figures_say(text: str, seed: int) -> None:
    """Rows of all sizes, with figures on both sides of the limit and between two values of a row."""
    rng, slo = np.random.default_rng(seed), parse_slo(text)
    sizes = [1, 2, 3, 10, 11, 20, 101, 200, 1000] * 6
    scales = np.geomspace(0.2, 3.0, len(sizes))
    made = run({f"a{i}": (scales[i] * rng.exponential(1.0, n)).tolist() for i, n in enumerate(sizes)})
    limit, rows = slo.limits[0], slo_rows(made, slo)
    enough = [i for i, n in enumerate(sizes) if limit.allowed_late is None or n * limit.allowed_late >= 1 - 1e-9]
    ttft_s = made.requests.first_token_s - made.requests.arrival_s
    for i in enough:
        mine = np.sort(ttft_s[made.requests.adapter == i])
        if limit.share is not None:
            figure = mine[max(0, int(np.ceil(limit.share * len(mine) - 1e-9)) - 1)]
        else:
            figure = mine.mean() if limit.statistic == "mean" else np.percentile(mine, float(limit.statistic[1:]))
        assert rows.value_s[0][i] == pytest.approx(figure)
        assert rows.missed[0][i] == (figure > limit.limit_s)
    assert 0 < sum(rows.missed[0][enough]) < len(enough)
    assert missing_rows(made, slo) == rows.missing
