"""The step time's formula, and its coefficients for a configuration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.kernel import StepCost, StepFeatures, step_time_s
from loratwin.kernel.cost import padded_tokens
from loratwin.perf import StepTimeModel, load_profile, profile_names
from tests.slow import examples

MODELS = [load_profile(name).step_time for name in profile_names()]

NOTHING = StepFeatures(*([0] * len(StepFeatures._fields)))
FREE = StepCost(*([0.0] * len(StepCost._fields)))._replace(weights_s=1.0, roofline_power=2.0, graph_tokens=512.0)


def time_s(cost: StepCost, **features: int) -> float:
    """Duration of a step with these features and nothing else."""
    return step_time_s(cost, NOTHING._replace(**features))


@pytest.mark.parametrize(
    ("tokens", "computed"),
    [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (505, 512), (512, 512), (513, 513), (2048, 2048)],
)
def test_graphs_pad_tokens(tokens: int, computed: int) -> None:
    assert padded_tokens.py_func(tokens, 512.0) == computed  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Term:
    """One coefficient, a step in which it counts, and how often."""

    coefficient: str
    features: dict[str, int]
    times: float


@pytest.mark.parametrize(
    "term",
    [
        Term("running_s", {"running": 7}, 7),
        Term("context_s", {"decode_context": 1000}, 1000),
        Term("skipped_s", {"skipped": 30}, 30),
        Term("prefill_step_s", {"prefill_tokens": 50}, 1),
        Term("prefill_context_s", {"prefill_tokens": 50, "prefill_context": 1250}, 1250),
        Term("prefill_context_s", {"prefill_context": 1250}, 0),
        Term("eager_s", {"prefill_tokens": 512}, 0),
        Term("eager_s", {"prefill_tokens": 513}, 1),
        Term("lora_s", {}, 1),
        Term("lora_tile_s", {"decode_requests": 1}, 1),
        Term("lora_tile_s", {"decode_requests": 60}, 1),
        Term("lora_tile_s", {"decode_requests": 65}, 2),
        Term("lora_token_s", {"prefill_tokens": 9, "lora_prefill_tokens": 5}, 5),
        Term("adapter_s", {"distinct_adapters": 3, "decode_requests": 3}, 3),
        Term("adapter_tile_s", {"distinct_adapters": 3, "decode_requests": 65}, 0),
        Term("adapter_tile_s", {"distinct_adapters": 3, "prefill_tokens": 65}, 6),
        Term("adapter_small_s", {"distinct_adapters": 3, "decode_requests": 100}, 3),
        Term("adapter_small_s", {"distinct_adapters": 3, "decode_requests": 128}, 0),
    ],
    ids=lambda term: f"{term.coefficient}-{term.times:g}",
)
def test_each_coefficient_counts_what_its_name_says(term: Term) -> None:
    cost = FREE._replace(**{term.coefficient: 0.125})
    assert time_s(cost, **term.features) == pytest.approx(1.0 + 0.125 * term.times, rel=1e-12)


def test_weights_and_compute_are_joined_by_a_norm() -> None:
    cost = FREE._replace(weights_s=3.0, token_s=0.5)
    assert time_s(cost, decode_requests=8) == pytest.approx(5.0)  # 3, 4, 5
    sharp = cost._replace(roofline_power=100.0)
    assert time_s(sharp, decode_requests=2) == pytest.approx(3.0)
    assert time_s(sharp, decode_requests=80) == pytest.approx(40.0)
    assert time_s(cost._replace(roofline_power=1.0), decode_requests=8) == pytest.approx(7.0)


def test_without_lora_nothing_of_it_is_left() -> None:
    for model in MODELS:
        cost = model.resolve(slots=0, rank=16)
        assert all(value == 0 for name, value in cost._asdict().items() if name.startswith(("lora", "adapter")))
        assert cost.weights_s == model.weights_s


def test_slots_and_doublings_of_the_rank() -> None:
    units = {name: 0.0 for name in StepTimeModel.model_fields} | {
        "weights_s": 1.0,
        "token_s": 1.0,
        "roofline_power": 2.0,
    }
    model = StepTimeModel(
        **units
        | {"lora_s": 1.0, "slot_s": 0.5, "slot_rank_s": 0.25, "slot_tile_s": 2.0, "adapter_s": 3.0}
        | {"adapter_rank_s": 0.5, "lora_token_s": 7.0, "lora_token_rank_s": 1.0}
    )
    at_8, at_32 = model.resolve(10, 8), model.resolve(10, 32)
    assert (at_8.lora_s, at_8.lora_tile_s, at_8.adapter_s, at_8.lora_token_s) == (6.0, 20.0, 3.0, 7.0)
    assert (at_32.lora_s, at_32.lora_tile_s, at_32.adapter_s, at_32.lora_token_s) == (11.0, 20.0, 4.0, 9.0)


def test_scaling_changes_durations_only() -> None:
    model = MODELS[0]
    twice = model.scaled(2.0)
    assert (twice.roofline_power, twice.graph_tokens) == (model.roofline_power, model.graph_tokens)
    step = {
        "decode_requests": 100,
        "prefill_tokens": 500,
        "distinct_adapters": 9,
        "running": 101,
        "decode_context": 9000,
    }
    assert time_s(twice.resolve(16, 16), **step) == pytest.approx(2 * time_s(model.resolve(16, 16), **step), rel=1e-12)


features = st.builds(
    StepFeatures,
    decode_requests=st.integers(0, 2048),
    prefill_tokens=st.integers(0, 2048),
    decode_context=st.integers(0, 10**6),
    prefill_context=st.integers(0, 10**7),
    distinct_adapters=st.integers(0, 384),
    lora_decode_requests=st.integers(0, 2048),
    lora_prefill_tokens=st.integers(0, 2048),
    waiting=st.integers(0, 30_000),
    skipped=st.integers(0, 30_000),
    running=st.integers(0, 2048),
)


@examples(every_day=200, thorough=3000)
@given(
    features, st.sampled_from(StepFeatures._fields), st.integers(1, 1000), st.sampled_from(MODELS),
    st.integers(0, 384), st.sampled_from([8, 16, 32, 64]),
)  # fmt: skip
def test_more_work_never_takes_less_time(
    step: StepFeatures, name: str, more: int, model: StepTimeModel, slots: int, rank: int
) -> None:
    """But for `adapter_small_s`, which a step loses when it grows beyond 128 tokens: the measurements say so."""
    cost = model.resolve(slots, rank)._replace(adapter_small_s=0.0)
    larger = step._replace(**{name: getattr(step, name) + more})
    assert step_time_s(cost, larger) >= step_time_s(cost, step) * (1 - 1e-12)


@pytest.mark.parametrize(("tokens", "computed"), [(4, 4), (250, 256), (256, 256), (257, 272), (500, 512), (513, 513)])
def test_later_graphs_come_by_16_beyond_256_tokens(tokens: int, computed: int) -> None:
    """vLLM 0.32 `_set_cudagraph_sizes`."""
    assert padded_tokens.py_func(tokens, 512.0, 256.0) == computed  # type: ignore[attr-defined]


def test_with_graphs_of_their_own_steps_without_adapters_run_no_lora_kernels() -> None:
    cost = FREE._replace(lora_s=2.0, lora_tile_s=3.0, adapter_s=5.0, base_graphs=1.0)
    assert time_s(cost, decode_requests=3, distinct_adapters=0) == 1.0
    assert time_s(cost, decode_requests=3, distinct_adapters=1) == 11.0


def test_a_hidden_walk_counts_only_where_it_is_longer_than_the_step() -> None:
    cost = FREE._replace(skipped_s=0.1, hidden_walk=1.0)
    assert time_s(cost, decode_requests=3, skipped=9) == 1.0
    assert time_s(cost, decode_requests=3, skipped=40) == pytest.approx(4.0)
    assert time_s(cost._replace(hidden_walk=0.0), decode_requests=3, skipped=40) == pytest.approx(5.0)
