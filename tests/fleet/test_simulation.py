"""A fleet is its servers, each simulated with what it got; from the command line, too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loratwin.errors import CapacityError, InputError
from loratwin.fleet import Placement, Server, save_placement, simulate_fleet
from loratwin.fleet.routers import ROUTERS
from loratwin.fleet.split import part_of_server
from loratwin.metrics import gauges, per_adapter
from loratwin.perf import load_profile
from loratwin.records import EngineConfig, load_run, save_run
from loratwin.simulate import simulate
from loratwin.workload import Workload, draw, parse_spec
from loratwin.workload.recorded import recorded_workload
from tests.cli.program import loratwin

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
SPEC = {
    "window_s": 120,
    "lengths": {"kind": "sharegpt"},
    "base": {"rate": 1.0},
    "groups": [
        {
            "name": "a",
            "count": 12,
            "ranks": [8, 16],
            "total_rate": 30.0,
            "popularity": {"kind": "zipf", "exponent": 1.2},
        }
    ],
}


def requests(**changes: object) -> Workload:
    return draw(parse_spec({**SPEC, **changes}), 5)


def placement(slots: int = 3) -> Placement:
    """Three servers, the first four adapters on two of them each."""
    servers = [Server(f"gpu-{k}", PROFILE, EngineConfig(max_loras=slots, max_lora_rank=16)) for k in range(3)]
    names = requests().adapters.name
    shares = {
        name: {f"gpu-{i % 3}": 0.5, f"gpu-{(i + 1) % 3}": 0.5} if i < 4 else {f"gpu-{i % 3}": 1.0}
        for i, name in enumerate(names)
    }
    return Placement.of(servers, {**shares, "base": {"gpu-0": 0.5, "gpu-2": 0.5}}, base="base")


def test_servers_without_slots_get_what_uses_no_adapter() -> None:
    """Residency says nothing of them: it is no reason to send a request nowhere."""
    servers = [Server(f"gpu-{k}", PROFILE, EngineConfig(max_loras=0)) for k in range(2)]
    where = Placement.of(servers, {"base": {"gpu-0": 0.5, "gpu-1": 0.5}}, base="base")
    fleet = simulate_fleet(where, requests(groups=[], base={"rate": 20.0}), "llm-d-residency")
    assert set(fleet.run.requests.replica.tolist()) == {0, 1}


@pytest.mark.parametrize("router", ROUTERS)
def test_each_server_did_what_the_twin_does_with_its_requests(router: str) -> None:
    """Whoever shared them out: alone, each server's run is the twin's, bit for bit."""
    where, what = placement(), requests()
    fleet = simulate_fleet(where, what, router)
    table = fleet.run.requests
    assert set(np.unique(table.replica)) == {0, 1, 2}
    for k, server in enumerate(where.servers):
        alone = simulate(part_of_server(where, what, k, table.replica), load_profile(PROFILE), server.config)
        here = table.replica == k
        for column in ("arrival_s", "admitted_s", "first_token_s", "finish_s", "output_tokens", "refused"):
            assert getattr(alone.requests, column).tobytes() == getattr(table, column)[here].tobytes(), column
        for name, value in vars(gauges(alone)).items():
            assert getattr(fleet.gauges[k], name) == pytest.approx(value), name


def test_figures_are_of_the_whole_fleet() -> None:
    fleet = simulate_fleet(placement(), requests(), "least-in-flight")
    assert fleet.requests_of().sum() == len(fleet.run.requests)
    figures = fleet.adapters()
    assert figures.name == per_adapter(fleet.run).name
    assert figures.requests.sum() == len(fleet.run.requests)
    offered = (fleet.run.requests.prompt_tokens.astype(float) + fleet.run.requests.output_tokens).sum() / 120
    assert fleet.tokens_per_s().sum() == pytest.approx(offered)


def test_processes_change_nothing() -> None:
    one, two = (simulate_fleet(placement(), requests(), processes=n) for n in (1, 2))
    assert one.run.requests.finish_s.tobytes() == two.run.requests.finish_s.tobytes()
    assert one.gauges == two.gauges


def test_a_record_keeps_what_prompts_share(tmp_path: Path) -> None:
    """Each server finds what is shared among its own requests; the file of all of them can be served again alike."""
    shared = [{**SPEC["groups"][0], "prefix": {"tokens": 320}}]  # type: ignore[index]
    where, what = placement(), requests(groups=shared)
    fleet = simulate_fleet(where, what)
    run = load_run(save_run(fleet.run, tmp_path / "fleet.parquet"))
    table = run.requests
    assert run.sharing is not None and run.prefix_cache is not None and table.cached_tokens is not None
    alone = [
        simulate(part_of_server(where, what, k, table.replica), load_profile(PROFILE), server.config)
        for k, server in enumerate(where.servers)
    ]
    assert run.prefix_cache.hits == sum(one.prefix_cache.hits for one in alone) > 0
    assert run.prefix_cache.queries == sum(one.prefix_cache.queries for one in alone)
    for k, one in enumerate(alone):
        assert one.requests.cached_tokens.tobytes() == table.cached_tokens[table.replica == k].tobytes()
    again = simulate_fleet(where, recorded_workload(run))
    assert again.run.prefix_cache == run.prefix_cache
    assert again.run.requests.finish_s.tobytes() == table.finish_s.tobytes()
    assert simulate_fleet(where, requests()).run.requests.cached_tokens is None, "nothing shared: no column"


def test_old_signals_and_weights_matter() -> None:
    """A router that sees an old queue, or nothing but residency, sends elsewhere."""
    now, old = (simulate_fleet(placement(), requests(), "llm-d", scrape_s=s).run.requests.replica for s in (0.0, 30.0))
    assert (now != old).any()
    usual = simulate_fleet(placement(), requests(), "llm-d-lora").run.requests.replica
    queue_alone = {"lora": 0, "kv": 0, "queue": 1}
    other = simulate_fleet(placement(), requests(), "llm-d-lora", weights=queue_alone).run.requests.replica
    assert (other != usual).any()


def test_what_cannot_be_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="the placement has no adapter 'b-0"):
        simulate_fleet(placement(), requests(groups=[{"name": "b", "count": 2, "ranks": [8], "rate": 1.0}]))
    with pytest.raises(InputError, match="a fleet needs traffic with rates"):
        closed = [{"name": "a", "count": 2, "ranks": [8], "arrivals": {"kind": "closed", "concurrency": 2}}]
        simulate_fleet(placement(), draw(parse_spec({"window_s": 10, "lengths": SPEC["lengths"], "groups": closed})))
    full = placement().servers[0].config.replace(max_loras=3000)
    servers = tuple(replace(server, config=full) for server in placement().servers)
    with pytest.raises(CapacityError, match="gpu-0: the server does not start"):
        simulate_fleet(replace(placement(), servers=servers), requests(), "ray")


def test_the_command_prints_and_writes_the_same(tmp_path: Path) -> None:
    save_placement(placement(), tmp_path / "placement.json")
    (tmp_path / "workload.yaml").write_text(json.dumps(SPEC))
    words = ["fleet", "simulate", "placement.json", "workload.yaml", "--seed", "5", "--router", "ray"]
    shown = loratwin(*words, "-o", "run.json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "3 servers, router ray:" in shown.stdout and "gpu-2" in shown.stdout
    data = json.loads(loratwin(*words, "--json", cwd=tmp_path).stdout)
    fleet = simulate_fleet(placement(), requests(), "ray")
    assert [server["requests"] for server in data["servers"]] == fleet.requests_of().tolist()
    np.testing.assert_array_equal(load_run(tmp_path / "run.json").requests.replica, fleet.run.requests.replica)


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    save_placement(placement(), tmp_path / "placement.json")
    (tmp_path / "workload.yaml").write_text(json.dumps(SPEC))
    for words, line in (
        (["--router", "lmd"], "unknown router 'lmd'. Did you mean 'llm-d'?"),
        (["--router", "llm-d", "--weights", "queue"], "--weights 'queue': expected NAME=NUMBER"),
    ):
        failed = loratwin("fleet", "simulate", "placement.json", "workload.yaml", *words, cwd=tmp_path)
        assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and line in failed.stderr
