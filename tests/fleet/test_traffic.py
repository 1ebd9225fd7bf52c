"""What a server gets of the fleet's requests: the same as by a placement, and ideal parts that add up."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from loratwin.fleet import split_requests
from loratwin.fleet.split import routing_numbers
from loratwin.fleet.traffic import Sample, Traffic, contents
from loratwin.workload import AdapterGroup, BaseTraffic, Fixed, Separate, Workload, WorkloadSpec, draw
from tests.fleet.fleets import placement


def drawn(seed: int = 0) -> Workload:
    groups = (
        AdapterGroup(name="three", count=3, names=("hot", "warm", "cold"), rates=(20.0, 4.0, 1.0)),
        AdapterGroup(
            name="long",
            count=40,
            total_rate=10,
            popularity="zipf",
            ranks=16,
            lengths=Separate(prompt=Fixed(tokens=900), output=Fixed(tokens=100)),
        ),
    )
    return draw(WorkloadSpec(window_s=600, groups=groups, base=BaseTraffic(rate=5.0)), seed)


def test_a_servers_content_says_what_the_placement_does() -> None:
    workload = drawn().take_adapters([0, 1, 2])
    known = placement()
    parts = split_requests(known, workload, routing_numbers(workload.seed, workload.num_requests))
    found = contents(known.adapter, known.server, known.fraction, known.num_servers)
    traffic = pickle.loads(pickle.dumps(Traffic((workload,))))
    for part, content in zip(parts, found, strict=True):
        assert traffic.part(content, 0).digest == part.digest
        assert traffic.part(content, 0).adapters.rate_per_s == pytest.approx(part.adapters.rate_per_s)


def test_load_is_rate_times_the_tokens_of_the_group() -> None:
    workload = drawn()
    load = Traffic((workload, drawn(1))).tokens_per_s()
    assert load[3:-1] == pytest.approx(workload.adapters.rate_per_s[3:] * 1000)
    assert load[0] / load[2] == pytest.approx(20)
    assert load[-1] > 0


def test_what_draws_ask_of_a_server_is_counted_in_tokens() -> None:
    """The mean over the draws; more or less than its rates say."""
    draws = (drawn(), drawn(1))
    traffic = Traffic(draws)
    known = placement()
    found = contents(known.adapter, known.server, known.fraction, known.num_servers)
    for content in found:
        parts = [traffic.part(content, seed) for seed in range(2)]
        tokens = [float((part.prompt_tokens + part.output_tokens).sum()) / 600 for part in parts]
        assert traffic.drawn_tokens_per_s(content) == pytest.approx(np.mean(tokens))


@pytest.mark.parametrize("parts", [1, 3, 4.5, 7])
def test_a_sample_has_its_part_of_load_and_number(parts: float) -> None:
    workload = drawn()
    traffic = Traffic((workload,), (workload.adapters.group > 0).astype(np.int32))
    part = traffic.part(Sample((1 / parts, 1 / parts), 1 / parts), 0)
    assert part.num_requests == pytest.approx(workload.num_requests / parts, rel=0.05)
    assert len(part.adapters) == np.ceil(3 / parts) + np.ceil(40 / parts)
    assert part.adapters.rate_per_s.sum() == pytest.approx(workload.adapters.rate_per_s.sum() / parts)
    assert np.all(part.adapters.rank[part.adapters.group == 1] == 16)
    counts = np.bincount(part.adapter + 1, minlength=len(part.adapters) + 1)[1:]
    assert counts / part.window_s == pytest.approx(part.adapters.rate_per_s, rel=0.5, abs=0.05)


def test_a_sample_of_one_class_has_nothing_of_others() -> None:
    workload = drawn()
    traffic = Traffic((workload,), workload.adapters.group)
    part = traffic.part(Sample((0.0, 0.5)), 0)
    assert set(part.adapters.group.tolist()) == {1}
    assert not np.any(part.adapter < 0)
