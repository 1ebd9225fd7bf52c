"""From a specification and a seed to arrays: the only place where a workload becomes random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.traces import MAX_TOKENS
from loratwin.workload.arrays import BASE, F8, I4, OPEN, Adapters, Workload, arrival_order
from loratwin.workload.arrivals import AtOnce, ClientRates, Closed, Replay
from loratwin.workload.lengths import Separate, TraceLengths
from loratwin.workload.sharegpt import ShareGpt
from loratwin.workload.sharing import ALONE, Sharing, Texts, shared_blocks
from loratwin.workload.spec import BASE_NAME, AdapterGroup, BaseTraffic, Prefix, Sessions, WorkloadSpec
from loratwin.workload.streams import stream

Source = AdapterGroup | BaseTraffic
Order = NDArray[np.intp] | slice


class _GroupRequests(NamedTuple):
    """Requests of one group, sorted by arrival; adapters numbered within the group, -1 for the base LLM."""

    arrival_s: F8
    adapter: I4
    prompt_tokens: I4
    output_tokens: I4
    rows: I4 | None = None  # of a replayed trace


class _GroupPart(NamedTuple):
    """Requests of one group and what they share; turns of a conversation are rows one behind the other."""

    requests: _GroupRequests
    text: I4
    follows: I4  # rows of this part
    think_s: F8


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
        The seed is negative, a trace can no longer be read, or a conversation grows beyond the tokens of any LLM.
    """
    texts = Texts()
    parts = [] if spec.base is None else [_shared(spec.base, _draw_base(spec.base, spec, seed), spec, seed, texts)]
    first = 0
    for group in spec.groups:
        part = _shared(group, _draw_group(group, spec, seed), spec, seed, texts)
        adapter = part.requests.adapter
        there = np.where(adapter >= 0, adapter + np.int32(first), np.int32(BASE))
        parts.append(part._replace(requests=part.requests._replace(adapter=there)))
        first += group.count
    base_rate = 0.0 if spec.base is None else spec.base.rate_per_s(spec.window_s)
    requests, order = _merged(parts) if spec.pattern == OPEN else (parts[0].requests[:4], slice(None))  # else as drawn
    sharing = _sharing(parts, order, texts)
    return Workload(
        *requests, _adapters(spec), spec.window_s, seed, base_rate, spec.pattern, sharing, spec.trace_notes()
    )


def _merged(parts: list[_GroupPart]) -> tuple[tuple[F8, I4, I4, I4], Order]:
    arrival_s, adapter, prompt, output = (
        np.concatenate(columns) for columns in zip(*(part.requests[:4] for part in parts), strict=True)
    )
    order = arrival_order(arrival_s, adapter)
    return (arrival_s[order], adapter[order], prompt[order], output[order]), order


def _sharing(parts: list[_GroupPart], order: Order, texts: Texts) -> Sharing | None:
    """That of all parts, one behind the other and then in the order of arrival."""
    first = np.cumsum([0, *(len(part.text) for part in parts)])
    follows = [np.where(part.follows >= 0, part.follows + at, ALONE) for part, at in zip(parts, first, strict=False)]
    text, think_s = (np.concatenate([part[i] for part in parts]) for i in (1, 3))
    whole = texts.sharing(text, np.concatenate(follows), think_s)
    return whole if whole is None else whole.take(np.arange(first[-1])[order])


def _shared(source: Source, drawn: _GroupRequests, spec: WorkloadSpec, seed: int, texts: Texts) -> _GroupPart:
    """Requests with the beginning that they share; where a source has conversations, each becomes one."""
    nobody = np.full(len(drawn.arrival_s), ALONE, np.int32)
    if (recorded := _of_record(source, drawn)) is not None:
        return _GroupPart(drawn, texts.of(recorded), recorded.follows, recorded.think_s)
    text = _of_trace(source, drawn, texts)
    if source.prefix is not None:
        tokens = drawn.prompt_tokens.astype(np.int64) + source.prefix.tokens
        drawn = drawn._replace(prompt_tokens=_counted(tokens))
        text = _prefix_texts(source, source.prefix, drawn.adapter, texts)
    if source.sessions is None:
        return _GroupPart(drawn, nobody if text is None else text, nobody, np.zeros(len(nobody)))
    return _conversations(source, source.sessions, drawn, nobody if text is None else text, spec, seed, texts)


def _of_record(source: Source, drawn: _GroupRequests) -> Sharing | None:
    """What the requests of a replayed record share, unless the workload says it anew."""
    said_anew = source.prefix is not None or source.sessions is not None
    if said_anew or not isinstance(source.arrivals, Replay) or drawn.rows is None:
        return None
    whole = source.arrivals.recorded_sharing()
    return whole and whole.take(drawn.rows)


def _of_trace(source: Source, drawn: _GroupRequests, texts: Texts) -> I4 | None:
    """What a replayed trace says its prompts have in common, shape (num_requests,)."""
    if not isinstance(source.arrivals, Replay) or drawn.rows is None:
        return None
    blocks = source.arrivals.trace().blocks
    if blocks is None:
        return None
    return shared_blocks((blocks.of(row) for row in drawn.rows), drawn.prompt_tokens, blocks.tokens, texts)


def _prefix_texts(source: Source, prefix: Prefix, adapter: I4, texts: Texts) -> I4:
    """The text that each request begins with, shape (num_requests,)."""
    if prefix.per == "all":
        return np.full(len(adapter), texts.common(("all", prefix.tokens), ALONE, prefix.tokens), np.int32)
    by_adapter = isinstance(source, AdapterGroup) and prefix.per == "adapter"
    count = source.count + 1 if isinstance(source, AdapterGroup) and by_adapter else 1  # the last: without adapter
    begin = texts.add(np.full(count, ALONE, np.int32), np.full(count, prefix.tokens, np.int32), own=False)
    return begin[adapter] if by_adapter else np.full(len(adapter), begin[0], np.int32)


def _conversations(
    source: Source, sessions: Sessions, first: _GroupRequests, text: I4, spec: WorkloadSpec, seed: int, texts: Texts
) -> _GroupPart:
    """Each request drawn becomes the first turn of a conversation; turns that begin after the window are left out."""
    num, turns = len(first.arrival_s), sessions.turns
    name = source.name if isinstance(source, AdapterGroup) else BASE_NAME
    lengths = source.lengths or spec.lengths
    more = num * (turns - 1)
    question, answer = lengths.draw(stream(seed, name, "questions"), stream(seed, name, "answers"), more)
    if sessions.growth is not None:
        question = np.full(more, sessions.growth, np.int32)
    questions = np.concatenate([first.prompt_tokens[:, None], question.reshape(num, turns - 1)], axis=1)
    answers = np.concatenate([first.output_tokens[:, None], answer.reshape(num, turns - 1)], axis=1)
    ends = np.cumsum(questions + answers.astype(np.int64), axis=1)
    turn = np.arange(turns)
    rows = np.arange(num * turns, dtype=np.int32).reshape(num, turns)
    arrival_s = first.arrival_s[:, None] + turn * sessions.think_s
    turn_texts = np.empty((num, turns - 1), np.int32)
    for i in range(turns - 1):
        turn_texts[:, i] = texts.add(text if i == 0 else turn_texts[:, i - 1], _counted(ends[:, i]), own=True)
    requests = _GroupRequests(
        arrival_s.ravel(),
        np.repeat(first.adapter, turns),
        _counted(ends - answers).ravel(),
        answers.ravel(),
    )
    follows = np.where(turn > 0, rows - 1, ALONE).astype(np.int32).ravel()
    followed = turn_texts[:, np.minimum(turn, turns - 2)].ravel()  # nobody repeats the last answer
    whole = _GroupPart(requests, followed, follows, np.tile((turn > 0) * sessions.think_s, num))
    return _inside(whole, spec.window_s)


def _inside(part: _GroupPart, window_s: float) -> _GroupPart:
    """Without the turns that begin after the window, which are the last of their conversations."""
    keep = np.flatnonzero(part.requests.arrival_s < window_s)
    row = np.full(len(part.text) + 1, ALONE, np.int32)
    row[keep] = np.arange(len(keep), dtype=np.int32)
    arrival_s, adapter, prompt, output, _ = part.requests
    requests = _GroupRequests(arrival_s[keep], adapter[keep], prompt[keep], output[keep])
    return _GroupPart(requests, part.text[keep], row[part.follows[keep]], part.think_s[keep])


def _counted(tokens: NDArray[np.int64]) -> I4:
    """Tokens as counts of 32 bits.

    Raises
    ------
    InputError
        A conversation or a prefix makes more of them than any LLM has.
    """
    if tokens.size and int(tokens.max()) > MAX_TOKENS:
        raise InputError(f"a prompt grows to {int(tokens.max()):,} tokens, and {MAX_TOKENS:,} are the most")
    return tokens.astype(np.int32)


def _draw_group(group: AdapterGroup, spec: WorkloadSpec, seed: int) -> _GroupRequests:
    rng = stream(seed, group.name, "arrivals")
    if isinstance(group.arrivals, Replay):
        arrival_s, rows = group.arrivals.times(spec.window_s)
        return _replayed(group, spec, seed, arrival_s, _assign(rng, group, rows), rows)
    if isinstance(group.arrivals, Closed | AtOnce):
        number = group.arrivals.num_drawn
        adapter = rng.choice(group.count, number, p=group.weights()).astype(np.int32)
        return _with_lengths(group.lengths or spec.lengths, group.name, seed, np.zeros(number), adapter)
    rate = group.rate_per_s(spec.window_s) / _turns(group)
    arrival_s, adapter = group.arrivals.draw(rng, rate, spec.window_s)
    drawn = _with_lengths(group.lengths or spec.lengths, group.name, seed, arrival_s, adapter)
    has_client_lengths = isinstance(group.arrivals, ClientRates) and group.lengths is None
    return _lengths_of_clients(group, drawn, seed) if has_client_lengths else drawn


def _lengths_of_clients(group: AdapterGroup, drawn: _GroupRequests, seed: int) -> _GroupRequests:
    """ShareGPT's lengths with each client's own means, where its file tells them."""
    assert isinstance(group.arrivals, ClientRates)
    clients = group.arrivals.clients()
    prompt, output = drawn.prompt_tokens.copy(), drawn.output_tokens.copy()
    for i in np.unique(drawn.adapter).tolist():
        means = float(clients.prompt_mean[i]), float(clients.output_mean[i])
        if np.isfinite(means).all():
            rows = np.flatnonzero(drawn.adapter == i)
            prompt_rng, output_rng = (
                stream(seed, group.name, f"{side} of {clients.names[i]}") for side in ("prompt", "output")
            )
            lengths = ShareGpt(prompt_mean=max(means[0], 1.01), output_mean=max(means[1], 1.01))
            prompt[rows], output[rows] = lengths.draw(prompt_rng, output_rng, len(rows))
    return drawn._replace(prompt_tokens=prompt, output_tokens=output)


def _draw_base(base: BaseTraffic, spec: WorkloadSpec, seed: int) -> _GroupRequests:
    if isinstance(base.arrivals, Replay):
        arrival_s, rows = base.arrivals.times(spec.window_s)
        return _replayed(base, spec, seed, arrival_s, np.full(len(rows), BASE, dtype=np.int32), rows)
    if isinstance(base.arrivals, Closed | AtOnce):
        number = base.arrivals.num_drawn
        nobody = np.full(number, BASE, dtype=np.int32)
        return _with_lengths(base.lengths or spec.lengths, BASE_NAME, seed, np.zeros(number), nobody)
    rate = np.array([base.rate_per_s(spec.window_s)]) / _turns(base)
    arrival_s, adapter = base.arrivals.draw(stream(seed, BASE_NAME, "arrivals"), rate, spec.window_s)
    return _with_lengths(base.lengths or spec.lengths, BASE_NAME, seed, arrival_s, np.full_like(adapter, BASE))


def _turns(source: Source) -> int:
    """Requests of one arrival: a rate counts requests, and a conversation has several."""
    return 1 if source.sessions is None else source.sessions.turns


def _assign(rng: np.random.Generator, group: AdapterGroup, rows: I4) -> I4:
    """Adapter of each replayed request: the trace's own, or one by the popularity law; shape (num_requests,)."""
    assert isinstance(group.arrivals, Replay)
    trace = group.arrivals.trace()
    if trace.adapter is None:
        return rng.choice(group.count, len(rows), p=group.weights()).astype(np.int32)
    index = {name: i for i, name in enumerate(group.adapter_names())}
    number = np.array([index[name] for name in trace.adapter_names] + [BASE], dtype=np.int32)
    return number[trace.adapter[rows]]  # -1, no adapter, is the last entry


def _replayed(source: Source, spec: WorkloadSpec, seed: int, arrival_s: F8, adapter: I4, rows: I4) -> _GroupRequests:
    """Lengths of a replayed trace: the source's own, else those in the trace, else the workload's."""
    assert isinstance(source.arrivals, Replay)
    trace = source.arrivals.trace()
    name = source.name if isinstance(source, AdapterGroup) else BASE_NAME
    drawn = _with_lengths(source.lengths or spec.lengths, name, seed, arrival_s, adapter)._replace(rows=rows)
    if source.lengths is not None:
        return drawn
    if trace.prompt_tokens is not None:
        drawn = drawn._replace(prompt_tokens=trace.prompt_tokens[rows])
    return drawn if trace.output_tokens is None else drawn._replace(output_tokens=trace.output_tokens[rows])


def _with_lengths(
    lengths: ShareGpt | Separate | TraceLengths, name: str, seed: int, arrival_s: F8, adapter: I4
) -> _GroupRequests:
    prompt, output = lengths.draw(stream(seed, name, "prompt"), stream(seed, name, "output"), len(arrival_s))
    return _GroupRequests(arrival_s, adapter, prompt, output)


def _adapters(spec: WorkloadSpec) -> Adapters:
    groups = spec.groups
    return Adapters(
        name=tuple(name for group in groups for name in group.adapter_names()),
        rank=np.concatenate([np.zeros(0, np.int32), *(group.rank_of_each() for group in groups)]),
        rate_per_s=np.concatenate([np.zeros(0), *(group.rate_per_s(spec.window_s) for group in groups)]),
        group=np.repeat(np.arange(len(groups), dtype=np.int32), [group.count for group in groups]),
    )
