"""Whatever cannot be meant is refused in one line: the file, the key, the value, and what would be valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.workload import AdapterGroup, RateChoices, WorkloadSpec, load_spec, parse_spec, uniform_groups

GROUP: dict[str, Any] = {"name": "a", "count": 3, "rate": 1}


def refused(data: Any, folder: Path | None = None) -> str:
    with pytest.raises(InputError) as error:
        parse_spec(data, "w.yaml", folder)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith("w.yaml: ")
    return line.removeprefix("w.yaml: ")


def group(**changes: Any) -> dict[str, Any]:
    """A workload whose one group has these keys; None takes a key away."""
    return {"groups": [{key: value for key, value in (GROUP | changes).items() if value is not None}]}


KEYS = (
    "name, count, names, adapters, ranks, rate, total_rate, popularity, rates, arrivals, lengths, prefix, sessions, "
    "slo, pin, isolated"
)
KINDS = "poisson, gamma, deterministic, on_off, diurnal, replay, clients, closed, at_once"
FORMS = "must be one rank (16), ranks given in turn ([8, 16]), shares ({8: 0.5, 16: 0.5}), or {by_name: {adapter: 16}}"
COUNT = "groups[0].count: this key is required, unless names, rates, weights or a trace with adapters tell it"
LENGTHS = "must be sharegpt, the kind trace, or a mapping with the keys prompt and output"

GROUP_CASES: list[tuple[dict[str, Any], str]] = [
    # keys
    ({"rats": 1}, f"groups[0].rats = 1: unknown key; did you mean 'rates'? valid: {KEYS}"),
    ({"zzz": 1}, f"groups[0].zzz = 1: unknown key; valid: {KEYS}"),
    ({"name": None}, "groups[0].name: this key is required"),
    ({"arrivals": {"kind": "gamma", "CV": 1}}, "groups[0].arrivals.CV = 1: unknown key; valid: kind, cv"),
    # numbers
    ({"rate": -1}, "groups[0].rate = -1: must be greater than or equal to 0"),
    ({"rate": float("nan")}, "groups[0].rate = nan: must be a finite number"),
    ({"rate": float("inf")}, "groups[0].rate = inf: must be a finite number"),
    ({"rate": "fast"}, "groups[0].rate = 'fast': must be a number"),
    ({"rate": [1]}, "groups[0].rate: must be a number"),
    ({"rate": True}, "groups[0].rate = True: yes and no (on and off) are not valid here; quote it if it is a name"),
    ({"count": 0}, "groups[0].count = 0: must be greater than or equal to 1"),
    ({"count": 2.5}, "groups[0].count = 2.5: must be a whole number"),
    ({"count": "many"}, "groups[0].count = 'many': must be a whole number"),
    (
        {"count": None},
        COUNT,
    ),
    # names
    (
        {"name": "a/b"},
        "groups[0].name = 'a/b': must start with a letter or digit, then letters, digits, '.', '_' or '-'",
    ),
    ({"name": "base"}, "groups[0].name = 'base': is reserved for traffic without adapter"),
    ({"name": 5}, "groups[0].name = 5: must be text"),
    ({"names": ["x", "y"]}, "groups[0].names: is for 2 adapters, but count is 3"),
    ({"names": ["x", "x", "y"]}, "groups: adapter name 'x' is used 2 times; names must differ"),
    # what a plan keeps
    ({"slo": 2}, "groups[0].slo = 2: must be text"),
    ({"pin": "gpu-0"}, "groups[0].pin = 'gpu-0': must be a list"),
    ({"pin": []}, "groups[0].pin: must have at least one entry"),
    ({"isolated": "perhaps"}, "groups[0].isolated = 'perhaps': must be a valid boolean, unable to interpret input"),
    # rates
    ({"rate": None}, "groups[0]: must have exactly one of rate, total_rate, rates; has none"),
    ({"total_rate": 2}, "groups[0]: must have exactly one of rate, total_rate, rates; has rate and total_rate"),
    ({"rate": None, "rates": [1, 2]}, "groups[0].rates: is for 2 adapters, but count is 3"),
    ({"rate": None, "rates": [1, -2, 3]}, "groups[0].rates[1] = -2: must be greater than or equal to 0"),
    (
        {"rate": None, "rates": "equal"},
        "groups[0].rates = 'equal': must be a list with the rate of each adapter, or a mapping with the keys values "
        "and counts",
    ),
    (
        {"rate": None, "rates": {"values": [1, 2], "counts": [3]}},
        "groups[0].rates.counts: must have one entry for each of the 2 values",
    ),
    (
        {"rate": None, "rates": {"values": [1, 2], "counts": [3, 1]}},
        "groups[0].rates.counts: is for 4 adapters, but count is 3",
    ),
    ({"rate": 1e9}, "asks for about 10,800,000,000,000 requests in the window; at most 50,000,000 are drawn"),
    # popularity
    ({"popularity": "zipf"}, "groups[0].popularity = 'zipf': shares out total_rate, which is not given"),
    (
        {"rate": None, "total_rate": 1, "popularity": "zip"},
        "groups[0].popularity = 'zip': unknown kind 'zip'; did you mean 'zipf'? valid: equal, zipf",
    ),
    (
        {"rate": None, "total_rate": 1, "popularity": 3},
        "groups[0].popularity = 3: must be equal, zipf, a mapping with the key 'kind', or a list of weights",
    ),
    (
        {"rate": None, "total_rate": 1, "popularity": {"kind": "zipf", "exponent": -1}},
        "groups[0].popularity.exponent = -1: must be greater than or equal to 0",
    ),
    ({"rate": None, "total_rate": 1, "popularity": [1, 2]}, "groups[0].popularity: is for 2 adapters, but count is 3"),
    ({"rate": None, "total_rate": 1, "popularity": [0, 0, 0]}, "groups[0].popularity: must have a weight above 0"),
    # ranks
    ({"ranks": 0}, "groups[0].ranks = 0: must be greater than or equal to 1"),
    ({"ranks": 1024}, "groups[0].ranks = 1024: must be less than or equal to 512"),
    ({"ranks": "8"}, f"groups[0].ranks = '8': {FORMS}"),
    ({"ranks": [8, -8]}, "groups[0].ranks[1] = -8: must be greater than or equal to 1"),
    ({"ranks": []}, "groups[0].ranks: must have at least one entry"),
    ({"ranks": {8: 0.5, 16: 0.6}}, "groups[0].ranks: shares must add up to 1, they add up to 1.1"),
    ({"ranks": {8: 2, 16: -1}}, "groups[0].ranks.16 = -1: must be greater than or equal to 0"),
    # arrivals
    (
        {"arrivals": "possion"},
        f"groups[0].arrivals = 'possion': unknown kind 'possion'; did you mean 'poisson'? valid: {KINDS}",
    ),
    (
        {"arrivals": {"kind": "burst"}},
        f"groups[0].arrivals.kind = 'burst': unknown kind 'burst'; valid: {KINDS}",
    ),
    ({"arrivals": {}}, "groups[0].arrivals: must be a mapping with the key 'kind'"),
    ({"arrivals": {"amplitude": 0.5}}, "groups[0].arrivals: must be a mapping with the key 'kind'"),
    ({"arrivals": "gamma"}, "groups[0].arrivals.cv: this key is required"),
    ({"arrivals": {"kind": "gamma", "cv": 0}}, "groups[0].arrivals.cv = 0: must be greater than 0"),
    (
        {"arrivals": {"kind": "on_off", "on_s": 0, "off_s": 1}},
        "groups[0].arrivals.on_s = 0: must be greater than or equal to 0.1",
    ),
    (
        {"arrivals": {"kind": "on_off", "on_s": 1, "off_s": -1}},
        "groups[0].arrivals.off_s = -1: must be greater than or equal to 0",
    ),
    ({"arrivals": "diurnal"}, "groups[0].arrivals: must have amplitude (with period_s, peak_s), or relative_rates"),
    (
        {"arrivals": {"kind": "diurnal", "amplitude": 1.5}},
        "groups[0].arrivals.amplitude = 1.5: must be less than or equal to 1",
    ),
    (
        {"arrivals": {"kind": "diurnal", "relative_rates": [1], "period_s": 9}},
        "groups[0].arrivals.period_s = 9: belongs to amplitude, not to relative_rates",
    ),
    (
        {"arrivals": {"kind": "diurnal", "relative_rates": [0, 0]}},
        "groups[0].arrivals.relative_rates: must have an entry above 0",
    ),
    # lengths
    (
        {"lengths": "sharegtp"},
        f"groups[0].lengths = 'sharegtp': {LENGTHS}",
    ),
    (
        {"lengths": {"kind": "lognormal"}},
        f"groups[0].lengths: {LENGTHS}",
    ),
    ({"lengths": {"prompt": 3}}, "groups[0].lengths.output: this key is required"),
    ({"lengths": {"prompt": 0, "output": 1}}, "groups[0].lengths.prompt = 0: must be greater than or equal to 1"),
    ({"lengths": {"kind": "sharegpt", "prompt_mean": 1}}, "groups[0].lengths.prompt_mean = 1: must be greater than 1"),
    (
        {"lengths": {"prompt": "fixed", "output": 1}},
        "groups[0].lengths.prompt = 'fixed': must be a number of tokens, or a mapping with the key 'kind'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), GROUP_CASES, ids=[str(case[0])[:60] for case in GROUP_CASES])
def test_groups(changes: dict[str, Any], message: str) -> None:
    assert refused(group(**changes)) == message


DISTRIBUTION_CASES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "normal"}, ".kind = 'normal': unknown kind 'normal'; did you mean 'lognormal'? valid: fixed, uniform, "),
    ({"kind": "fixed", "tokens": 0}, ".tokens = 0: must be greater than or equal to 1"),
    ({"kind": "uniform", "min": 9, "max": 3}, ".max = 3: must be at least min (9)"),
    ({"kind": "lognormal"}, ": must have mean and std, or median and sigma; has none"),
    ({"kind": "lognormal", "mean": 9, "sigma": 1}, ": must have mean and std, or median and sigma; has mean, sigma"),
    ({"kind": "lognormal", "mean": 9, "std": 1, "max": 9}, ".mean = 9: must lie between min (1) and max (9)"),
    ({"kind": "lognormal", "median": 9, "sigma": 1, "min": 9, "max": 8}, ".max = 8: must be at least min (9)"),
    ({"kind": "histogram"}, ": must have exactly one of bins, path; has none"),
    ({"kind": "histogram", "bins": []}, ".bins: must have at least one row with a count above 0"),
    ({"kind": "histogram", "bins": [[1, 5, 0]]}, ".bins: must have at least one row with a count above 0"),
    (
        {"kind": "histogram", "bins": [[1, 5, 2], [7, 7, 2]]},
        ".bins[1]: hi must be above lo; the row is [7.0, 7.0, 2.0]",
    ),
    ({"kind": "histogram", "bins": [[1, 5, 2], [5, 7, -1]]}, ".bins[1]: count must not be negative"),
    ({"kind": "histogram", "bins": [[0, 5, 2]]}, ".bins[0]: lo and hi must be from 1 to 10000000"),
    ({"kind": "histogram", "bins": [[1, 5]]}, ".bins[0][2]: this key is required"),
    ({"kind": "histogram", "path": "no.csv"}, ".path = 'no.csv': no such file"),
    ({"kind": "histogram", "path": "h.csv"}, ".path = 'h.csv': has no column 'lo'; it has tokens, text"),
    ({"kind": "samples"}, ": must have exactly one of values, path; has none"),
    ({"kind": "samples", "values": []}, ".values: must have at least one entry"),
    ({"kind": "samples", "values": [5, 0]}, ".values[1] = 0: must be greater than or equal to 1"),
    ({"kind": "samples", "path": "h.csv"}, ".column: must be given with path, and only then"),
    ({"kind": "samples", "path": "h.csv", "column": "x"}, ".path = 'h.csv': has no column 'x'; it has tokens, text"),
    ({"kind": "samples", "path": "h.csv", "column": "text"}, ".path = 'h.csv': line 2, text: 'hello' is not a number"),
    (
        {"kind": "samples", "path": "h.csv", "column": "tokens"},
        ".column = 'tokens': lengths must be from 1 to 10000000",
    ),
    ({"kind": "samples", "path": "empty.csv", "column": "tokens"}, ".path = 'empty.csv': has no rows"),
    ({"kind": "samples", "path": "binary.csv", "column": "tokens"}, ".path = 'binary.csv': cannot be read as CSV ("),
]


@pytest.mark.parametrize(
    ("prompt", "message"), DISTRIBUTION_CASES, ids=[str(case[0])[:60] for case in DISTRIBUTION_CASES]
)
def test_distributions(tmp_path: Path, prompt: dict[str, Any], message: str) -> None:
    (tmp_path / "h.csv").write_text("tokens,text\n5,hello\n0,you\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.csv").write_text("tokens\n")
    line = refused(group(lengths={"prompt": prompt, "output": 1}), tmp_path)
    assert line.startswith(f"groups[0].lengths.prompt{message}")


REPLAY_CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"path": "nowhere.csv"}, "groups[0].arrivals.path = 'nowhere.csv': no such file ("),
    ({}, {}, "groups[0].arrivals.path: this key is required"),
    ({}, {"path": "t.csv", "speed": 0}, "groups[0].arrivals.speed = 0: must be greater than 0"),
    ({}, {"path": "t.csv", "start_s": -1}, "groups[0].arrivals.start_s = -1: must be greater than or equal to 0"),
    (
        {},
        {"path": "t.csv", "start_s": 99},
        "groups[0].arrivals.start_s = 99: the last request of the trace arrives at 5 s",
    ),
    (
        {"rate": 1},
        {"path": "t.csv"},
        "groups[0].rate = 1: a replayed trace has its own rate; use arrivals.speed to change it",
    ),
    (
        {"popularity": "zipf"},
        {"path": "t.csv"},
        "groups[0].popularity = 'zipf': the trace itself says which adapter each request is for",
    ),
    ({"count": 1}, {"path": "t.csv"}, "groups[0].count = 1: must be at least 2, the number of adapters in the trace"),
    (
        {"names": ["red", "green"]},
        {"path": "t.csv"},
        "groups[0].names: the trace has requests for an adapter 'blue' that is not ",
    ),
]


@pytest.mark.parametrize(("changes", "arrivals", "message"), REPLAY_CASES)
def test_replays(tmp_path: Path, changes: dict[str, Any], arrivals: dict[str, Any], message: str) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,adapter\n1,red\n5,blue\n")
    keys = {"count": 2, "rate": None, "arrivals": {"kind": "replay", **arrivals}} | changes
    assert refused(group(**keys), tmp_path).startswith(message)


def test_a_trace_that_would_be_repeated_for_ever(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arrival_s\n0\n0.000001\n")
    line = refused(group(rate=None, arrivals={"kind": "replay", "path": "t.csv", "repeat": True}), tmp_path)
    most = "at most 50,000,000 requests are drawn"
    assert line == f"groups.a.arrivals: a trace of 2e-06 s is repeated 1,800,000,000 times; {most}"


def test_whole_workloads(tmp_path: Path) -> None:
    nothing = "groups: must have at least one group of adapters, unless there is base traffic"
    assert refused({}) == nothing
    assert refused({"groups": []}) == nothing
    assert refused({"groups": GROUP}) == "groups: must be a list"
    assert refused({"groups": ["a"]}) == "groups[0] = 'a': must be a mapping of keys to values"
    assert refused({"groups": [GROUP, GROUP]}) == "groups: group name 'a' is used 2 times; names must differ"
    assert refused({"window_s": 0, **group()}) == "window_s = 0: must be greater than 0"
    assert (
        refused({"group": [GROUP]})
        == "group: unknown key; did you mean 'groups'? valid: window_s, lengths, base, groups, slo, slo_for"
    )
    assert (
        refused({"base": {}})
        == "base.rate: must be given, unless a trace is replayed, or clients send in a closed loop or at once"
    )
    (tmp_path / "t.csv").write_text("arrival_s,adapter\n1,red\n")
    replay = {"kind": "replay", "path": "t.csv"}
    assert refused({"base": {"rate": 2, "arrivals": replay}}, tmp_path).startswith(
        "base.rate = 2: a replayed trace has its own rate"
    )
    assert "has an adapter column" in refused({"base": {"arrivals": replay}}, tmp_path)


def test_further_problems_are_counted() -> None:
    assert refused(group(rate=-1, count=0)) == "groups[0].count = 0: must be greater than or equal to 1 (+1 more)"


def test_the_second_of_two_groups_is_named() -> None:
    assert refused({"groups": [GROUP, {**GROUP, "name": "b", "rate": -3}]}).startswith("groups[1].rate = -3: ")


def test_a_long_value_is_shortened() -> None:
    assert len(refused(group(name="/" * 500))) < 250


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping with the keys window_s, lengths, base, groups, slo, slo_for; it holds nothing"),
        (
            "- a\n- b\n",
            "must be a mapping with the keys window_s, lengths, base, groups, slo, slo_for; it holds a list",
        ),
        ("just text", "must be a mapping with the keys window_s, lengths, base, groups, slo, slo_for; it holds a str"),
        ("groups: [", "w.yaml:1:10: not valid YAML: "),
        ("a: 1\nb:\t- 2", "w.yaml:2:3: not valid YAML: "),
        ("window_s: 5\ngroups: []\nwindow_s: 6\n", "w.yaml:3:1: not valid YAML: key 'window_s' is given twice"),
        ("groups:\n  - {name: a, name: b}\n", "w.yaml:2:15: not valid YAML: key 'name' is given twice"),
        ("groups: !!python/object:os.system {}\n", "not valid YAML: could not determine a constructor"),
        ("? [1, 2]\n: 3\n", "not valid YAML: "),
        ("a: \x00", "cannot be read: "),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_spec(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.yaml: cannot be read: No such file or directory"):
        load_spec(tmp_path / "no.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_spec(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=r"b\.yaml: cannot be read: "):
        load_spec(tmp_path / "b.yaml")


def test_an_unknown_example_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'support-desk'. Known: .*trace-replay"):
        load_spec("example:suport-desk")


def test_python_objects_are_refused_in_the_same_words() -> None:
    with pytest.raises(InputError, match=r"AdapterGroup: count = -1: must be greater than or equal to 1"):
        AdapterGroup(name="a", count=-1, rate=1)
    with pytest.raises(InputError, match=r"WorkloadSpec: groups\[0\]\.rate = -1: "):
        WorkloadSpec(groups=[{"name": "a", "count": 1, "rate": -1}])
    with pytest.raises(InputError, match=r"RateChoices: counts: must have one entry for each of the 2 values"):
        RateChoices(values=(1, 2), counts=(1,))
    with pytest.raises(InputError, match=r"values\[0\] = -1"):
        uniform_groups([-1], [2], [8], 10, 10)
    with pytest.raises(InputError, match="ShareGpt: output_mean = 0"):
        uniform_groups([1], [2], [8], 10, 0)


def test_specifications_do_not_change() -> None:
    spec = parse_spec(group())
    with pytest.raises(Exception, match="frozen"):
        spec.window_s = 5
    assert spec == parse_spec(group())
