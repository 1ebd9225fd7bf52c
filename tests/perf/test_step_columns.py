"""Fit and twin: what a fit takes to be linear in the coefficients is the kernel's time of the same steps."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.engines.versions import GENERATIONS, Device
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import EngineBehaviour, StepTimeModel, generation_of
from loratwin.perf.step_time import COEFFICIENTS, NO_TIMES, TERMS, roofline_s, roofline_slopes, step_columns
from tests.slow import examples

BEHAVIOURS = [generation.behaviour for generation in GENERATIONS]
DEVICES = {
    f"{generation.name} on {device}": generation_of(generation.name, device).behaviour
    for generation in GENERATIONS
    for device in get_args(Device)
}

SECONDS = st.floats(0, 1e-3)
EDGES = st.sampled_from([0, 1, 3, 4, 5, 64, 65, 127, 128, 129, 249, 256, 257, 260, 500, 512, 513])
GRAPHS = st.sampled_from([0.0, 6.0, 100.0, 512.0])
SLOTS_AND_RANK = st.tuples(st.sampled_from([0, 1, 16, 300]), st.sampled_from([8, 16, 32, 64]))

NO_COST = dict.fromkeys(COEFFICIENTS, 0.0)


@st.composite
def models(draw: st.DrawFn) -> StepTimeModel:
    return StepTimeModel(
        weights_s=draw(st.floats(1e-3, 0.1)),
        token_s=draw(st.floats(1e-6, 1e-4)),
        roofline_power=draw(st.floats(1, 8)),
        graph_tokens=draw(GRAPHS),
        **{name: draw(SECONDS) for name in COEFFICIENTS},
    )


@st.composite
def steps(draw: st.DrawFn) -> StepFeatures:
    """One step as the kernel may take it."""
    decode, prefill = draw(EDGES | st.integers(1, 600)), draw(st.sampled_from([0, 0, 1, 60, 500, 2048]))
    adapters = draw(st.integers(0, 100))
    return StepFeatures(
        decode_requests=decode,
        prefill_tokens=prefill,
        decode_context=draw(st.integers(0, 10**6)),
        prefill_context=draw(st.integers(1, 10**6)) if prefill else 0,
        distinct_adapters=adapters,
        lora_decode_requests=decode // 2 if adapters else 0,
        lora_prefill_tokens=prefill // 3 if adapters else 0,
        waiting=0,
        skipped=draw(st.integers(0, 300)),
        running=draw(st.integers(0, 1000)),
    )


def columns_of(found: list[StepFeatures]) -> StepFeatures:
    """The same steps as arrays."""
    return StepFeatures(*map(np.array, zip(*found, strict=True)))


@pytest.mark.parametrize("behaviour", DEVICES.values(), ids=DEVICES)
@examples(every_day=8, thorough=400)
@given(
    model=models(), found=st.lists(steps(), min_size=1, max_size=6), server=SLOTS_AND_RANK,
    seqs=st.sampled_from([1, 3, 40, 200, 2048]),
)  # fmt: skip
def test_fit_and_twin_give_the_same_milliseconds(
    behaviour: EngineBehaviour, model: StepTimeModel, found: list[StepFeatures], server: tuple[int, int], seqs: int
) -> None:
    slots, rank = server
    linear, tokens = step_columns(columns_of(found), slots, rank, behaviour, model.graph_tokens, seqs)
    of_the_fit = model.dense_s(tokens) + linear @ model.linear
    cost = model.resolve(slots, rank, behaviour, seqs)
    if behaviour.async_scheduling:  # there a walk longer than the step is what the step takes, and not linear
        of_the_fit = np.maximum(of_the_fit, [model.skipped_s * step.skipped for step in found])
    np.testing.assert_allclose(of_the_fit, [step_time_s(cost, step) for step in found], rtol=1e-9)


@examples(every_day=50, thorough=500)
@given(
    found=st.lists(steps(), min_size=1, max_size=3), server=SLOTS_AND_RANK, name=st.sampled_from(COEFFICIENTS),
    behaviour=st.sampled_from(BEHAVIOURS),
)  # fmt: skip
def test_every_column_alone(
    found: list[StepFeatures], server: tuple[int, int], name: str, behaviour: EngineBehaviour
) -> None:
    """A column is what its coefficient adds: two mistakes cannot cancel."""
    slots, rank = server
    base = StepTimeModel(weights_s=1e-9, token_s=1e-15, roofline_power=1, graph_tokens=512, **NO_COST)
    more = base.model_copy(update={name: 1.0})
    linear, _ = step_columns(columns_of(found), slots, rank, behaviour, 512.0, 2048)
    with_it, without = (model.resolve(slots, rank, behaviour, 2048) for model in (more, base))
    added = [step_time_s(with_it, step) - step_time_s(without, step) for step in found]
    if name == "skipped_s" and behaviour.async_scheduling:
        added = [0.0] * len(found)
    np.testing.assert_allclose(linear[:, COEFFICIENTS.index(name)], added, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("version", "tokens", "computed"),
    [("0.8.5", 257, 264), ("0.11.0", 500, 504), ("0.13.0", 257, 272), ("0.32.0", 500, 512), ("0.32.0", 250, 256)],
)
def test_the_columns_pad_as_the_version_does(version: str, tokens: int, computed: int) -> None:
    step = StepFeatures(tokens, 0, 0, 0, 0, 0, 0, 0, 0, tokens)
    columns = step_columns(columns_of([step]), 0, 8, generation_of(version).behaviour, 512.0, 2048)
    assert columns.tokens.tolist() == [computed]


def test_means_of_steps_are_padded_as_a_step_of_so_many_tokens_at_least() -> None:
    nothing = np.zeros(3)
    means = StepFeatures(np.array([15.7, 16.2, 2.5]), *[nothing] * 9)
    assert step_columns(means, 0, 8, BEHAVIOURS[0], 512.0, 2048).tokens.tolist() == [16.0, 24.0, 4.0]


def test_the_table_names_every_coefficient_once() -> None:
    kernels = {"weights_s", "token_s", "expert_s", "mixed_context_s", "mixed_request_s", "reread_context_s"}
    fields = set(StepTimeModel.model_fields) - NO_TIMES - kernels
    assert sorted(COEFFICIENTS) == sorted(fields)
    assert len({term.unit for term in TERMS}) == len(TERMS)


@given(
    weights_s=st.floats(1e-4, 0.1), token_s=st.floats(1e-6, 1e-3), power=st.floats(1, 8), tokens=st.floats(1, 4096)
)  # fmt: skip
def test_the_roofline_is_its_slopes_times_its_coefficients(
    weights_s: float, token_s: float, power: float, tokens: float
) -> None:
    at = np.array([tokens])
    by_weights, by_token = roofline_slopes(weights_s, token_s, power, at)
    dense = roofline_s(weights_s, token_s, power, at)
    np.testing.assert_allclose(by_weights * weights_s + by_token * token_s, dense, rtol=1e-12)
    more = roofline_s(weights_s * (1 + 1e-6), token_s, power, at)
    np.testing.assert_allclose((more - dense) / (weights_s * 1e-6), by_weights, rtol=1e-3, atol=1e-4)


def test_slots_of_several_servers_are_resolved_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    model = StepTimeModel(
        weights_s=0.01, token_s=1e-5, roofline_power=2.0, graph_tokens=512.0,
        **dict(zip(COEFFICIENTS, rng.uniform(0, 1e-3, len(COEFFICIENTS)), strict=True)),
    )  # fmt: skip
    slots = np.array([0, 1, 8, 384])
    together = model.resolve(slots, 32)
    for i, number in enumerate(slots.tolist()):
        alone = model.resolve(number, 32)
        assert [np.broadcast_to(value, 4)[i] for value in together] == list(alone)
