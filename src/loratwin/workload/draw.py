"""From a specification and a seed to arrays: the only place where a workload becomes random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.workload.arrays import BASE, F8, I4, OPEN, Adapters, Workload, arrival_order
from loratwin.workload.arrivals import AtOnce, Closed, Replay
from loratwin.workload.lengths import Separate
from loratwin.workload.popularity import rank_list
from loratwin.workload.sharegpt import ShareGpt
from loratwin.workload.spec import BASE_NAME, AdapterGroup, BaseTraffic, WorkloadSpec
from loratwin.workload.streams import stream


class _GroupRequests(NamedTuple):
    """Requests of one group, sorted by arrival; adapters numbered within the group, -1 for the base LLM."""

    arrival_s: F8
    adapter: I4
    prompt_tokens: I4
    output_tokens: I4


def draw(spec: WorkloadSpec, seed: int = 0) -> Workload:
    """Draw the requests of a workload; the same arrays for the same seed in every process.

    Parameters
    ----------
    spec
        What is asked for.
    seed
        0 or more; another seed is another hour of the same traffic.

    Returns
    -------
    Workload
        Arrays of shape (num_requests,): arrival in seconds, adapter, prompt and output tokens.

    Raises
    ------
    InputError
        The seed is negative, or a trace can no longer be read.
    """
    parts = [] if spec.base is None else [_draw_base(spec.base, spec, seed)]
    first = 0
    for group in spec.groups:
        part = _draw_group(group, spec, seed)
        parts.append(part._replace(adapter=np.where(part.adapter >= 0, part.adapter + np.int32(first), np.int32(BASE))))
        first += group.count
    base_rate = 0.0 if spec.base is None else spec.base.rate_per_s(spec.window_s)
    requests = _merged(parts) if spec.pattern == OPEN else parts[0]  # else clients send in the order drawn
    return Workload(*requests, _adapters(spec), spec.window_s, seed, base_rate, spec.pattern)


def _merged(parts: list[_GroupRequests]) -> _GroupRequests:
    arrival_s = np.concatenate([part.arrival_s for part in parts])
    adapter = np.concatenate([part.adapter for part in parts])
    prompt = np.concatenate([part.prompt_tokens for part in parts])
    output = np.concatenate([part.output_tokens for part in parts])
    order = arrival_order(arrival_s, adapter)
    return _GroupRequests(arrival_s[order], adapter[order], prompt[order], output[order])


def _draw_group(group: AdapterGroup, spec: WorkloadSpec, seed: int) -> _GroupRequests:
    rng = stream(seed, group.name, "arrivals")
    if isinstance(group.arrivals, Replay):
        arrival_s, rows = group.arrivals.times(spec.window_s)
        return _replayed(group, spec, seed, arrival_s, _assign(rng, group, rows), rows)
    if isinstance(group.arrivals, Closed | AtOnce):
        number = group.arrivals.num_drawn
        adapter = rng.choice(group.count, number, p=group.weights()).astype(np.int32)
        return _with_lengths(group.lengths or spec.lengths, group.name, seed, np.zeros(number), adapter)
    arrival_s, adapter = group.arrivals.draw(rng, group.rate_per_s(spec.window_s), spec.window_s)
    return _with_lengths(group.lengths or spec.lengths, group.name, seed, arrival_s, adapter)


def _draw_base(base: BaseTraffic, spec: WorkloadSpec, seed: int) -> _GroupRequests:
    if isinstance(base.arrivals, Replay):
        arrival_s, rows = base.arrivals.times(spec.window_s)
        return _replayed(base, spec, seed, arrival_s, np.full(len(rows), BASE, dtype=np.int32), rows)
    if isinstance(base.arrivals, Closed | AtOnce):
        number = base.arrivals.num_drawn
        nobody = np.full(number, BASE, dtype=np.int32)
        return _with_lengths(base.lengths or spec.lengths, BASE_NAME, seed, np.zeros(number), nobody)
    rate = np.array([base.rate_per_s(spec.window_s)])
    arrival_s, adapter = base.arrivals.draw(stream(seed, BASE_NAME, "arrivals"), rate, spec.window_s)
    return _with_lengths(base.lengths or spec.lengths, BASE_NAME, seed, arrival_s, np.full_like(adapter, BASE))


def _assign(rng: np.random.Generator, group: AdapterGroup, rows: I4) -> I4:
    """Adapter of each replayed request: the trace's own, or one by the popularity law; shape (num_requests,)."""
    assert isinstance(group.arrivals, Replay)
    trace = group.arrivals.trace()
    if trace.adapter is None:
        return rng.choice(group.count, len(rows), p=group.weights()).astype(np.int32)
    index = {name: i for i, name in enumerate(group.adapter_names())}
    number = np.array([index[name] for name in trace.adapter_names] + [BASE], dtype=np.int32)
    return number[trace.adapter[rows]]  # -1, no adapter, is the last entry


def _replayed(
    source: AdapterGroup | BaseTraffic, spec: WorkloadSpec, seed: int, arrival_s: F8, adapter: I4, rows: I4
) -> _GroupRequests:
    """Lengths of a replayed trace: the source's own, else those in the trace, else the workload's."""
    assert isinstance(source.arrivals, Replay)
    trace = source.arrivals.trace()
    name = source.name if isinstance(source, AdapterGroup) else BASE_NAME
    drawn = _with_lengths(source.lengths or spec.lengths, name, seed, arrival_s, adapter)
    if source.lengths is not None:
        return drawn
    if trace.prompt_tokens is not None:
        drawn = drawn._replace(prompt_tokens=trace.prompt_tokens[rows])
    return drawn if trace.output_tokens is None else drawn._replace(output_tokens=trace.output_tokens[rows])


def _with_lengths(lengths: ShareGpt | Separate, name: str, seed: int, arrival_s: F8, adapter: I4) -> _GroupRequests:
    prompt, output = lengths.draw(stream(seed, name, "prompt"), stream(seed, name, "output"), len(arrival_s))
    return _GroupRequests(arrival_s, adapter, prompt, output)


def _adapters(spec: WorkloadSpec) -> Adapters:
    groups = spec.groups
    return Adapters(
        name=tuple(name for group in groups for name in group.adapter_names()),
        rank=np.concatenate([np.zeros(0, np.int32), *(rank_list(group.ranks, group.count) for group in groups)]),
        rate_per_s=np.concatenate([np.zeros(0), *(group.rate_per_s(spec.window_s) for group in groups)]),
        group=np.repeat(np.arange(len(groups), dtype=np.int32), [group.count for group in groups]),
    )
