"""The regression's rows: their product with the coefficients is the kernel's step time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.calibrate.published.micro import MicroPoint
from loratwin.calibrate.published.operating_point import Match
from loratwin.calibrate.published.rows import LINEAR, table_rows
from loratwin.calibrate.published.serving import ServingRun
from loratwin.calibrate.published.step_time import mean_roofline_s
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import EngineBehaviour, StepTimeModel
from tests.calibrate.measured import row, serving_runs
from tests.slow import examples

COST = st.floats(0, 1e-3)
SLOTS_AND_RANK = st.tuples(st.sampled_from([0, 1, 16, 300]), st.sampled_from([8, 16, 32, 64]))
V085 = EngineBehaviour()
STRIDE = 5  # the roofline is averaged over every fifth sampled step


@st.composite
def models(draw: st.DrawFn) -> StepTimeModel:
    linear = {name: draw(COST) for name in LINEAR}
    return StepTimeModel(
        weights_s=draw(st.floats(1e-3, 0.1)),
        token_s=draw(st.floats(1e-6, 1e-4)),
        roofline_power=draw(st.floats(1, 8)),
        graph_tokens=draw(st.sampled_from([0.0, 6.0, 100.0, 512.0])),
        **linear,
    )


@st.composite
def steps(draw: st.DrawFn) -> StepFeatures:
    """One step of a server all of whose requests have an adapter."""
    edges = st.sampled_from([1, 3, 4, 5, 64, 65, 127, 128, 129, 512, 513])
    decode, prefill = draw(edges | st.integers(0, 600)), draw(st.sampled_from([0, 0, 1, 60, 500, 2048]))
    return StepFeatures(
        decode_requests=decode,
        prefill_tokens=prefill,
        decode_context=draw(st.integers(0, 10**6)),
        prefill_context=draw(st.integers(1, 10**6)) if prefill else 0,
        distinct_adapters=draw(st.integers(0, 100)),
        lora_decode_requests=decode,
        lora_prefill_tokens=prefill,
        waiting=0,
        skipped=draw(st.integers(0, 10**4)),
        running=draw(st.integers(0, 1000)),
    )


def matched(run: ServingRun, found: list[StepFeatures]) -> Match:
    """A match whose sample is these steps, each often enough to be in the roofline's."""
    columns = {name: np.repeat([float(getattr(f, name)) for f in found], STRIDE) for name in StepFeatures._fields}
    nothing = np.zeros(1)
    return Match(run, 1.0, 0.0, 0.02, 0.001, StepFeatures(**columns), 0.02, 0.02, 0.1, 0.1, nothing, nothing)


def micro(step: StepFeatures, slots: int, rank: int) -> MicroPoint:
    names = MicroPoint.__annotations__.keys() & set(StepFeatures._fields)
    return MicroPoint(
        "kind", 0.03, max_loras=slots, max_lora_rank=rank, weight=0.5, **{n: float(getattr(step, n)) for n in names}
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ServingRun:
    return serving_runs(tmp_path_factory.mktemp("rows"), row())[0]


@examples(every_day=100, thorough=1500)
@given(model=models(), found=st.lists(steps(), min_size=1, max_size=6), server=SLOTS_AND_RANK)
def test_rows_times_coefficients_are_the_kernels_mean_step_time(
    model: StepTimeModel, found: list[StepFeatures], server: tuple[int, int]
) -> None:
    slots, rank = server
    run = ServingRun("r", "m", slots, 1, rank, 8, 8, (8,), "", (), (), 1, 1, 1, {"adapter_ranks_cycle": "8"})
    cost = model.resolve(slots, rank)
    alone = [f._replace(skipped=0) for f in found]  # micro measurements have no queue
    rows = table_rows([matched(run, found)], [micro(f, slots, rank) for f in alone], V085, model.graph_tokens)
    linear = rows.features @ np.array([getattr(model, name) for name in LINEAR])
    dense = mean_roofline_s(rows.tokens, model.weights_s, model.token_s, model.roofline_power)
    expected: list[Any] = [np.mean([step_time_s(cost, f) for f in found]), *(step_time_s(cost, f) for f in alone)]
    np.testing.assert_allclose(linear + dense, expected, rtol=1e-9)


def test_what_is_known_of_each_row(server: ServingRun) -> None:
    step = StepFeatures(8, 0, 80, 0, 2, 8, 0, 0, 0, 8)
    rows = table_rows([matched(server, [step])], [micro(step, 300, 8)], V085, 512.0)
    assert rows.group == (server.group, "kind")
    assert rows.duration_s.tolist() == [0.02, 0.03]
    assert rows.known_s.tolist() == [0.001, 0.0]
    assert rows.weight.tolist() == [1.0, 0.5]


def test_without_a_group_no_row_of_it_is_left(tmp_path: Path) -> None:
    one, two = serving_runs(tmp_path, row("one", rate=0.1), row("two", rate=0.2, slots=64))
    step, other = StepFeatures(8, 0, 80, 0, 2, 8, 0, 0, 0, 8), StepFeatures(32, 0, 640, 0, 4, 32, 0, 0, 0, 32)
    every = table_rows([matched(one, [step]), matched(two, [other])], [micro(step, 0, 8)], V085, 512.0)
    rest = every.without(one.group)
    assert rest.group == (two.group, "kind")
    np.testing.assert_array_equal(rest.features, every.features[1:])
    assert [t.tolist() for t in rest.tokens] == [t.tolist() for t in every.tokens[1:]]
    assert [len(a) for a in (rest.duration_s, rest.known_s, rest.weight)] == [2, 2, 2]
