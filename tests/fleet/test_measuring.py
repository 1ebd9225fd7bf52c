"""A placement on real servers, with the load client as its router; each server speaks for what reached it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml

from loratwin.bench import GivenServers, Routing, load_requests
from loratwin.bench.worker.routers import LeastInFlight, router_of
from loratwin.errors import InputError
from loratwin.fleet import Placement, Server, client_routers, find_router, fleet_twin, measure_fleet, save_placement
from loratwin.fleet.measuring import placement_to_measure, routing_of, servers_of
from loratwin.fleet.simulation import servers_beforehand
from loratwin.records import EngineConfig, load_run
from loratwin.workload import load_spec
from tests.bench.servers import TimedServer, timed_server
from tests.cli.program import loratwin

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
HELD = {"gpu-0": ("hot-0", "warm-0"), "gpu-1": ("hot-0", "cold-0")}


def placement() -> Placement:
    """Two servers; one adapter on both."""
    config = EngineConfig(max_loras=2, max_lora_rank=16, gpu_memory_utilization=0.9)
    servers = [Server(name, PROFILE, config) for name in HELD]
    shares = {"hot-0": {"gpu-0": 0.25, "gpu-1": 0.75}, "warm-0": {"gpu-0": 1.0}, "cold-0": {"gpu-1": 1.0}}
    return Placement.of(servers, shares)


def traffic(folder: Path) -> Path:
    """Some 60 requests in two seconds."""
    groups = [{"name": name, "count": 1, "rate": rate} for name, rate in (("hot", 20), ("warm", 5), ("cold", 5))]
    lengths = {"prompt": {"kind": "fixed", "tokens": 32}, "output": {"kind": "fixed", "tokens": 8}}
    path = folder / "workload.yaml"
    path.write_text(yaml.safe_dump({"window_s": 2, "lengths": lengths, "groups": groups}))
    return path


def started(stack: ExitStack, folder: Path) -> dict[str, TimedServer]:
    """A server for each of the placement, with the adapters that it holds."""
    servers = {}
    for name, adapters in HELD.items():
        (folder / name).mkdir()
        servers[name] = stack.enter_context(timed_server(folder / name, "llm", *adapters))
    return servers


def test_a_placement_is_measured_as_its_router_says(tmp_path: Path) -> None:
    path, where = traffic(tmp_path), placement()
    save_placement(where, tmp_path / "plan.json")
    with ExitStack() as stack:
        servers = started(stack, tmp_path)
        urls = [word for server in servers.values() for word in ("--url", server.url)]
        done = loratwin("bench", str(path), "--fleet", "plan.json", *urls, "--warm-up", "4", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        asked = {name: {model for _, model, *_ in server.stop()["requests"]} for name, server in servers.items()}
    requests, run = load_requests(path), load_run(tmp_path / "bench.json")
    wanted = servers_beforehand(where, requests, find_router("fractions"))
    sent, replica = ~np.isnan(run.requests.sent_s), run.requests.replica
    assert sent.sum() > 0.5 * len(wanted)  # a busy machine may be late for those of the last moment
    assert replica[sent].tolist() == wanted[sent].tolist()
    for number, (name, adapters) in enumerate(HELD.items()):
        assert asked[name] == {"llm", *adapters}  # no server was asked for what it does not hold
        one = load_run(tmp_path / f"bench-{name}.json")
        assert one.adapters.name == tuple(sorted(adapters, key=requests.adapters.name.index))
        assert len(one.requests) == np.count_nonzero(replica == number) > 5
        assert (one.requests.adapter[~np.isnan(one.requests.sent_s)] >= 0).all() and one.config.max_loras == 2
        for i, adapter in enumerate(one.adapters.name):
            mine = requests.adapter == requests.adapters.name.index(adapter)
            share = np.count_nonzero(mine & (replica == number)) / np.count_nonzero(mine)
            assert one.adapters.rate_per_s[i] == pytest.approx(dict(hot=20, warm=5, cold=5)[adapter[:-2]] * share)
            assert np.count_nonzero(one.requests.adapter == i) == np.count_nonzero(mine & (replica == number))
    assert "twin" in done.stdout
    twin = fleet_twin(where, run, "fractions")
    assert (twin.kind, len(twin.requests)) == ("simulated", len(run.requests))
    assert twin.requests.replica[sent].tolist() == replica[sent].tolist()


def test_addresses_in_another_order_are_noticed_before_anything_is_sent(tmp_path: Path) -> None:
    requests = load_requests(traffic(tmp_path))
    with ExitStack() as stack:
        urls = [server.url for server in reversed(started(stack, tmp_path).values())]
        with pytest.raises(InputError, match=r"gpu-0 \(http.*\) does not serve 'warm-0', which the plan puts there"):
            measure_fleet(placement(), requests, urls, tmp_path / "bench.json")
    assert not (tmp_path / "bench.json.partial").exists()


def test_fewest_in_flight_are_counted_as_requests_are_sent_and_answered() -> None:
    first, server = np.array([0, 2, 3, 5]), np.array([0, 1, 1, 0, 1], np.int32)
    router = LeastInFlight(Routing(first, server, np.array([0.9, 0.1, 0.5, 0.0, 0.99])), 2)
    assert router.choose(0, 0) == 1  # a tie, and the number is high
    assert router.choose(1, 0) == 0  # fewer there
    assert router.choose(2, 1) == 1  # the only one that holds it
    router.ended(1)
    router.ended(1)
    assert router.choose(3, -1) == 1  # without adapter: the last row
    assert router.choose(4, -1) == 1  # a tie again


@pytest.mark.parametrize("name", ["fractions", "weighted", "least-in-flight", "dynamo"])
def test_a_journal_keeps_what_a_router_needs(tmp_path: Path, name: str) -> None:
    requests = load_requests(traffic(tmp_path))
    routing = routing_of(placement(), requests, name)
    routing.save(tmp_path)
    again = Routing.load(tmp_path)
    assert again is not None and name in client_routers()
    assert again.servers_of(0).tolist() == routing.servers_of(0).tolist()
    assert again.servers_of(-1).tolist() == []
    assert (again.chosen is None) == (name in ("least-in-flight", "dynamo"))
    chosen = [router_of(again, 2).choose(row, int(requests.adapter[row])) for row in range(len(requests.adapter))]
    held = [{0, 1}, {0}, {1}]
    assert all(server in held[adapter] for server, adapter in zip(chosen, requests.adapter.tolist(), strict=True))


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    requests, where = load_requests(traffic(tmp_path)), placement()
    with pytest.raises(InputError, match="--router llm-d: it looks into the servers.*take fractions, weighted"):
        routing_of(where, requests, "llm-d")
    with pytest.raises(InputError, match="1 addresses .* for 2 servers; one for each of gpu-0, gpu-1"):
        servers_of(where, requests, ["http://127.0.0.1:9"])
    with pytest.raises(InputError, match="--fleet: --launch, --profile are not for it"):
        placement_to_measure(save_placement(where, tmp_path / "p.json"), {"--launch": "vllm", "--profile": "x"})
    assert isinstance(servers_of(where, requests, ["http://a", "http://b"]), GivenServers)
    assert load_spec(tmp_path / "workload.yaml").window_s == 2
