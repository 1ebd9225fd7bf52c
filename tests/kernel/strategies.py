"""Random small servers and workloads that reach every corner of the engine.

Half of them are *exact*: all times are multiples of 2^-10 s and stay so under addition, so that arrivals at the very
end of a step are frequent and decided the same way in whatever order times are added. The other half has *odd* times,
in which such ties do not occur.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from loratwin.kernel import AdapterCosts, EngineLimits, EngineRules, Requests, StepCost

MAX_TOKENS = 30
LONG_S = 1e6


class Scenario(NamedTuple):
    """All that a run is a function of."""

    requests: Requests
    limits: EngineLimits
    costs: AdapterCosts
    num_adapters: int
    step_cost: StepCost


Row = tuple[int, int, int, int]  # ticks since the arrival before, adapter, prompt tokens, output tokens


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A server under pressure: few KV blocks, few slots, small budget, bursts."""
    num_adapters = draw(st.sampled_from([0, 1, 3, 5, 8, 8]))
    trickles = draw(st.sampled_from([False, False, True]))
    rows = draw(trickle(num_adapters) if trickles else request_rows(num_adapters))
    limits = draw(server_limits(rows, num_adapters))
    if trickles:
        limits = limits._replace(max_num_seqs=12, max_num_batched_tokens=50, max_in_flight=0, window_s=LONG_S)
    exact = draw(st.booleans())
    return Scenario(
        requests=requests_of(rows, exact),
        limits=limits,
        costs=draw(adapter_costs(num_adapters, exact)),
        num_adapters=num_adapters,
        step_cost=draw(exact_step_costs() if exact else odd_step_costs()),
    )


@st.composite
def scenarios_of_versions(draw: st.DrawFn) -> Scenario:
    """The same under the rules of later versions, each on and off."""
    scenario = draw(scenarios())
    rules = EngineRules(
        reserve_full_prompt=draw(st.integers(0, 1)),
        watermark_blocks=draw(st.sampled_from([0, 0, 1, 3])),
        async_scheduling=draw(st.sampled_from([0, 1, 1])),
        skipped_first=draw(st.integers(0, 1)),
        lora_set_of_running=draw(st.integers(0, 1)),
    )
    max_loras = draw(st.sampled_from([scenario.limits.max_loras, 1]))  # few slots: more is passed over
    return scenario._replace(limits=scenario.limits._replace(rules=rules, max_loras=max_loras))


@st.composite
def request_rows(draw: st.DrawFn, num_adapters: int) -> list[Row]:
    """Up to 40 requests; often alike, so that they cross block borders and finish together."""
    longest_gap = draw(st.sampled_from([0, 1, 3, 6, 30]))
    gap = st.integers(0, longest_gap)
    adapter = st.integers(draw(st.sampled_from([-1, -1, min(0, num_adapters - 1)])), num_adapters - 1)
    prompt = st.integers(1, draw(st.sampled_from([1, 8, MAX_TOKENS])))
    output = st.integers(1, draw(st.sampled_from([1, 10, MAX_TOKENS])))
    if draw(st.booleans()):
        prompt, output = st.just(draw(prompt)), st.just(draw(output))
    num_at_least = draw(st.sampled_from([1, 10, 20, 30]))
    return draw(st.lists(st.tuples(gap, adapter, prompt, output), min_size=num_at_least, max_size=40))


@st.composite
def trickle(draw: st.DrawFn, num_adapters: int) -> list[Row]:
    """Requests of hardly any adapter, one after the other, some of them long: the queue is often empty."""
    gap = st.sampled_from([1, 5, 20, 20])
    adapter = st.integers(-1, min(0, num_adapters - 1))
    output = st.sampled_from([1, 2, 25, 30])
    return draw(st.lists(st.tuples(gap, adapter, st.integers(1, 8), output), min_size=10, max_size=40))


def requests_of(rows: list[Row], exact: bool) -> Requests:
    """Requests in order of arrival; a tick is 1/64 s, or about as long and never the same."""
    gaps, adapter, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    ticks = np.cumsum(gaps)
    arrival_s = ticks / 64.0 if exact else (ticks + 0.3 * np.mod(ticks * math.sqrt(5.0), 1.0)) / 67.0
    return Requests(arrival_s, adapter.astype(np.int32), prompt.astype(np.int32), output.astype(np.int32))


@st.composite
def scenarios_that_share(draw: st.DrawFn) -> Scenario:
    """Any version with a prefix cache; prompts and outputs follow texts, and some requests follow others."""
    scenario = draw(scenarios_of_versions())
    requests = scenario.requests
    num = len(requests.arrival_s)
    requests = requests._replace(**draw(texts(num)))
    if draw(st.booleans()):
        requests = with_turns(requests, draw(st.lists(st.integers(-40, num - 1), min_size=num, max_size=num)))
        think = draw(st.lists(st.sampled_from([0.0, 0.0, 1 / 64, 0.25, 1.0]), min_size=num, max_size=num))
        requests = requests._replace(think_s=np.array(think))
    few = draw(st.sampled_from([1, 2, 9]))  # adapters: who has another shares nothing
    adapter = np.where(requests.adapter >= few, 0, requests.adapter).astype(np.int32)
    longest = int((requests.prompt_tokens + requests.output_tokens).max()) - 1
    more = draw(st.sampled_from([0, 1, 3, 6, 12, 30]))
    limits = scenario.limits
    rules = limits.rules._replace(
        prefix_caching=1,
        unhashed_first=draw(st.integers(0, 1)),
        count_admitted=draw(st.integers(0, 1)),
        count_fresh=draw(st.integers(0, 1)),
    )
    blocks = math.ceil(longest / limits.block_size) + more
    return scenario._replace(
        requests=requests._replace(adapter=adapter), limits=limits._replace(num_blocks=blocks, rules=rules)
    )


@st.composite
def texts(draw: st.DrawFn, num_requests: int) -> dict[str, Any]:
    """A tree of texts, and which of them each request follows."""
    parent: list[int] = []
    end: list[int] = []
    for i in range(draw(st.integers(0, 6))):
        above = draw(st.integers(-1, i - 1))
        parent.append(above)
        end.append((end[above] if above >= 0 else 0) + draw(st.integers(1, 16)))
    text = draw(st.lists(st.integers(-1, len(parent) - 1), min_size=num_requests, max_size=num_requests))
    columns = {"text": text, "text_parent": parent, "text_end": end}
    return {name: np.array(column, np.int32) for name, column in columns.items()}


def with_turns(requests: Requests, before: list[int]) -> Requests:
    """Some requests become turns: each repeats one before it, answer included, as far as 30 tokens go."""
    parent, end = requests.text_parent.tolist(), requests.text_end.tolist()
    text, prompt = requests.text.tolist(), requests.prompt_tokens.copy()
    follows = [-1] * len(before)
    for request, one in enumerate(before):
        if not 0 <= one < request or one in follows:
            continue
        whole = int(prompt[one] + requests.output_tokens[one])
        above = text[one]
        if whole > (end[above] if above >= 0 else 0):
            parent.append(above)
            end.append(whole)
            text[one] = len(parent) - 1
        follows[request], text[request] = one, text[one]
        prompt[request] = min(whole + int(prompt[request]) // 4 + 1, 2 * MAX_TOKENS)
    return requests._replace(
        prompt_tokens=prompt,
        text=np.array(text, np.int32),
        text_parent=np.array(parent, np.int32),
        text_end=np.array(end, np.int32),
        follows=np.array(follows, np.int32),
    )


@st.composite
def server_limits(draw: st.DrawFn, rows: list[Row], num_adapters: int) -> EngineLimits:
    """Limits that let each request run alone, and hardly more."""
    block_size = draw(st.sampled_from([1, 1, 2, 3, 4, 7, 16]))
    num_blocks = max(math.ceil((prompt + output - 1) / block_size) for _, _, prompt, output in rows)
    max_num_seqs = draw(st.sampled_from([1, 3, 6, 12, 12]))
    max_loras = draw(st.integers(1, 4)) if num_adapters else draw(st.integers(0, 1))
    return EngineLimits(
        num_blocks=num_blocks + draw(st.sampled_from([0, 1, 2, 4, 8, 1000])),
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.sampled_from([0, 1, 2, 4, 16, 1000])),
        max_loras=max_loras,
        max_cpu_loras=max_loras + draw(st.sampled_from([0, 0, 1, 2, 5])),
        max_in_flight=draw(st.sampled_from([0, 0, 0, 0, 0, 1, 5, 15])),
        window_s=draw(st.sampled_from([LONG_S] * 5 + [0.0, 0.5, 2.0])),
    )


@st.composite
def adapter_costs(draw: st.DrawFn, num_adapters: int, exact: bool) -> AdapterCosts:
    """Different seconds for each adapter, so that loading another one shows."""
    unit_s = draw(st.sampled_from([2.0**-6, 2.0**-10])) if exact else 1.0 / 997.0
    adapters = np.arange(num_adapters, dtype=np.float64)
    swap_in, disk_load = draw(st.integers(0, 8)), draw(st.integers(0, 40))
    return AdapterCosts((swap_in + adapters) * unit_s, (disk_load + 2.0 * adapters) * unit_s)


@st.composite
def exact_step_costs(draw: st.DrawFn) -> StepCost:
    """Coefficients in multiples of 2^-10 s, often none but the base, so that steps last whole ticks."""
    base_s = st.sampled_from([1, 2, 4]).map(lambda ticks: ticks / 64.0)
    units = draw(st.sampled_from([[0], [0, 0, 0, 1, 3]]))
    coefficient = st.sampled_from(units).map(lambda units: units * 2.0**-10)
    return draw(step_costs(base_s, coefficient, st.just(1.0)))


def odd_step_costs() -> st.SearchStrategy[StepCost]:
    """Coefficients that are no multiples of anything."""
    base_s = st.integers(1, 100).map(lambda units: math.sqrt(units) / 97.0)
    coefficient = st.integers(0, 100).map(lambda units: math.sqrt(units) / 9973.0)
    return step_costs(base_s, coefficient, st.sampled_from([1.0, 2.0, 3.5]))


def step_costs(
    base_s: st.SearchStrategy[float], coefficient: st.SearchStrategy[float], roofline_power: st.SearchStrategy[float]
) -> st.SearchStrategy[StepCost]:
    """A step cost whose terms all matter at the sizes of these scenarios."""
    special = {
        "weights_s": base_s,
        "roofline_power": roofline_power,
        "graph_tokens": st.sampled_from([0.0, 4.0, 16.0, 1000.0]),
        "graph_fine_tokens": st.sampled_from([0.0, 0.0, 8.0, 24.0]),
        "base_graphs": st.sampled_from([0.0, 1.0]),
        "hidden_walk": st.sampled_from([0.0, 1.0]),
    }
    assert special.keys() <= set(StepCost._fields)
    return st.builds(StepCost, **{name: special.get(name, coefficient) for name in StepCost._fields})


def large_scenario(seed: int, num_requests: int = 300) -> Scenario:
    """A workload as in life, in small: Poisson arrivals, more than is served, lognormal lengths, Zipf adapters."""
    rng = np.random.default_rng(seed)
    num_adapters = int(rng.integers(4, 40))
    max_num_seqs = int(rng.integers(4, 64))
    max_loras = int(rng.integers(1, 9))
    popularity = 1.0 / np.arange(1, num_adapters + 2)  # the most popular is the LLM without adapter
    lengths = np.clip(rng.lognormal([3.5, 3.0], [0.8, 0.7], (num_requests, 2)), 1, 400).astype(np.int32)
    alone = math.ceil((int(lengths.sum(axis=1).max()) - 1) / 16)
    coefficients = dict(zip(StepCost._fields, rng.uniform(0.0, 2e-4, len(StepCost._fields)).tolist(), strict=True))
    coefficients |= {"weights_s": 0.01, "roofline_power": 2.0, "graph_tokens": 64.0}
    coefficients |= {"graph_fine_tokens": 0.0, "base_graphs": 0.0, "hidden_walk": 0.0}
    return Scenario(
        Requests(
            arrival_s=np.cumsum(rng.exponential(rng.choice([0.002, 0.01, 0.05]), num_requests)),
            adapter=rng.choice(num_adapters + 1, num_requests, p=popularity / popularity.sum()).astype(np.int32) - 1,
            prompt_tokens=lengths[:, 0],
            output_tokens=lengths[:, 1],
        ),
        EngineLimits(
            num_blocks=alone + int(rng.integers(0, 60)),
            block_size=16,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_seqs + int(rng.integers(0, 256)),
            max_loras=max_loras,
            max_cpu_loras=max_loras + int(rng.integers(0, 20)),
            max_in_flight=int(rng.choice([0, 0, 100])),
            window_s=float(rng.choice([3.0, LONG_S])),
        ),
        AdapterCosts(rng.uniform(0.002, 0.01, num_adapters), rng.uniform(0.02, 0.2, num_adapters)),
        num_adapters,
        StepCost(**coefficients),
    )


def crowd(seed: int, num_requests: int = 40_000, num_steps: int = 130) -> Scenario:
    """Deep overload: nearly all requests wait, most of them skipped, and the walk gets far before the batch is full."""
    rng = np.random.default_rng(seed)
    num_adapters = 60
    tokens = rng.integers(1, 7, (2, num_requests)).astype(np.int32)
    coefficients = dict.fromkeys(StepCost._fields, 1e-7)
    coefficients |= {"weights_s": 0.01, "roofline_power": 1.0, "graph_tokens": 64.0}
    coefficients |= {"graph_fine_tokens": 0.0, "base_graphs": 0.0, "hidden_walk": 0.0}
    return Scenario(
        Requests(
            arrival_s=np.cumsum(rng.exponential(2e-6, num_requests)),
            adapter=rng.integers(-1, num_adapters, num_requests).astype(np.int32),
            prompt_tokens=tokens[0],
            output_tokens=tokens[1],
        ),
        EngineLimits(
            num_blocks=135, block_size=2, max_num_seqs=64, max_num_batched_tokens=200,
            max_loras=2, max_cpu_loras=8, max_in_flight=0, window_s=num_steps * 0.012,
        ),
        AdapterCosts(rng.uniform(0.0, 1e-3, num_adapters), rng.uniform(0.0, 1e-3, num_adapters)),
        num_adapters,
        StepCost(**coefficients),
    )  # fmt: skip
