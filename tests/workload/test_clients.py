"""Clients with a rate for each window become adapters that ask as often, as burstily and as long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.traces import read_clients, read_facts
from loratwin.workload import Workload, busiest_hour, draw, parse_spec
from tests.calibrate.measured import DATA
from tests.cli.program import loratwin
from tests.slow import SLOW

TABLE = """workload,client,start_s,rate,cv,prompt_tokens_mean,output_tokens_mean
a,10,0,1.0,1.0,400,50
a,10,600,4.0,1.0,400,50
a,2,1200,2.0,3.0,,
b,7,0,9.0,1.0,10,10
"""


def asked(folder: Path, *, window_s: float = 1800, seed: int = 1, **arrivals: Any) -> Workload:
    group = {"name": "g", "arrivals": {"kind": "clients", "path": "c.csv", "workload": "a", **arrivals}}
    return draw(parse_spec({"window_s": window_s, "groups": [group]}, folder=folder), seed)


def counts(workload: Workload, adapter: int) -> list[int]:
    at = workload.arrival_s[workload.adapter == adapter]
    return np.histogram(at, bins=np.arange(0, workload.window_s + 1, 600))[0].tolist()


def test_each_client_is_an_adapter_that_drifts(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(TABLE)
    workload = asked(tmp_path)
    assert workload.adapters.name == ("client-02", "client-10")
    assert workload.adapters.rate_per_s == pytest.approx([2 / 3, 5 / 3])
    assert counts(workload, 1) == pytest.approx([600, 2400, 0], abs=200)
    assert counts(workload, 0)[:2] == [0, 0] and counts(workload, 0)[2] == pytest.approx(1200, abs=400)
    gaps = np.diff(workload.arrival_s[workload.adapter == 0])
    assert gaps.std() / gaps.mean() == pytest.approx(3, rel=0.3)
    known = workload.adapter == 1
    assert workload.prompt_tokens[known].mean() == pytest.approx(400, rel=0.08)
    assert workload.output_tokens[known].mean() == pytest.approx(50, rel=0.08)
    assert workload.prompt_tokens[~known].mean() == pytest.approx(250.9, rel=0.1), "the workload's own"
    assert np.array_equal(asked(tmp_path).arrival_s, workload.arrival_s)


def test_a_later_window_and_other_rates(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(TABLE)
    workload = asked(tmp_path, start_s=900, window_s=600, scale=2)
    assert workload.adapters.rate_per_s == pytest.approx([2 * 2 / 2, 2 * 4 / 2])
    at = workload.arrival_s[workload.adapter == 1]
    assert at.max() < 300 and len(at) == pytest.approx(2400, abs=250)


def test_servegens_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "c.csv"  # a folder may be called so
    folder.mkdir()
    (folder / "chunk-3-trace.csv").write_text("0,1.5,1.2,Gamma,0.7,1.0\n600,0,0,,,\n1200,0.5,2.0,Weibull,1,1\n")
    (folder / "chunk-3-dataset.json").write_text(
        json.dumps({"0": {"input_tokens": "{100: 0.5, 300: 0.5}", "output_tokens": "{50: 1.0}"}, "600": {}})
    )
    (folder / "chunk-11-trace.csv").write_text("0,0.25,1.0,Exponential,1\n")
    clients = read_clients(folder)
    assert clients.names == ("client-03", "client-11") and clients.window_s == 600
    assert clients.rate_per_s.tolist() == [1.5, 0, 0.5, 0.25]
    assert clients.prompt_mean[0] == 200 and clients.output_mean[0] == 50 and np.isnan(clients.prompt_mean[1])
    assert asked(tmp_path, workload=None).num_requests > 0


def test_the_busiest_hour_of_clients(tmp_path: Path) -> None:
    rows = "".join(f"0,{600 * i},{3.0 if 12 <= i < 18 else 0.3}\n" for i in range(36))
    (tmp_path / "c.csv").write_text("client,start_s,rate\n" + rows)
    group = {"name": "g", "arrivals": {"kind": "clients", "path": "c.csv"}}
    spec = parse_spec({"window_s": 21_600, "groups": [group]}, folder=tmp_path)
    assert busiest_hour(spec).start_s == 7200


@pytest.mark.parametrize(
    ("text", "arrivals", "message"),
    [
        (TABLE, {"workload": None}, "none is named; it holds a, b"),
        (TABLE, {"workload": "c"}, "there is no workload 'c'; it holds a, b"),
        (TABLE.replace("rate", "speed"), {}, "no column 'rate'; clients have client, start_s, rate"),
        (TABLE.replace("4.0", "-4.0"), {}, "window 2: start_s 600 and rate -4 make no sense"),
        (TABLE, {"start_s": 1800}, "the last window ends at 1800 s"),
        ("client,start_s,rate\n1,0,1\n", {}, "has no column of workloads, and 'a' is asked for"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, arrivals: dict[str, Any], message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError) as error:
        asked(tmp_path, **arrivals)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_replay_of_clients_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(TABLE)
    with pytest.raises(InputError, match=r"holds rates of clients, not requests: arrivals: \{kind: clients"):
        parse_spec({"base": {"arrivals": {"kind": "replay", "path": "c.csv"}}}, folder=tmp_path)


def test_clients_are_shown(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(TABLE)
    done = loratwin("traffic", "show", "c.csv", "--workload", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "servegen (ServeGen's clients)" in done.stdout and "requests       4,200" in done.stdout
    assert "client-10 (3,000)" in done.stdout and "known of 1 of 2 clients" in done.stdout


SERVEGEN = DATA / "traces" / "servegen_clients.parquet"


@pytest.mark.skipif(not SERVEGEN.is_file(), reason="needs servegen_clients.parquet")
def test_the_public_clients() -> None:
    import pandas as pd

    frame = pd.read_parquet(SERVEGEN)
    groups = list(frame.groupby("workload", observed=True))
    for name, group in groups if SLOW else groups[:2]:
        facts = read_facts(SERVEGEN, workload=str(name))
        assert len(facts.adapters) == group.client.nunique()
        assert facts.requests == pytest.approx((group.rate * 600).sum(), rel=1e-4)
