"""Decode steps that others published: a row in, milliseconds and an interval out."""

from __future__ import annotations

import pytest

from loratwin.errors import DataError, InputError
from loratwin.llms import find_llm
from loratwin.perf import assume, find_gpu
from loratwin.perf.compare import decode_step_s
from loratwin.validate.public_steps import predict_step

ROW = {
    "gpu": "h100-sxm", "engine": "vllm-0.15.1", "llm": "llama-3.1-8b-instruct",
    "tp": "1", "batch": "32", "context": "300",
}  # fmt: skip


def test_a_step_is_that_of_the_assumed_profile_and_lies_in_its_interval() -> None:
    profile = assume(find_gpu(ROW["gpu"]), find_llm(ROW["llm"], ROW["engine"]), ROW["engine"])
    step = predict_step(ROW)
    assert step.measured_ms == pytest.approx(1e3 * decode_step_s(profile, 32, 0))
    assert 0.5 * step.measured_ms < step.low < step.measured_ms < step.high < 2 * step.measured_ms
    assert predict_step({**ROW, "measured_ms": "1.0", "note": "not looked at"}) == step


def test_a_mean_batch_lies_between_the_whole_ones() -> None:
    few, mean, many = (predict_step({**ROW, "batch": batch}).measured_ms for batch in ("40", "40.5", "41"))
    assert mean == pytest.approx((few + many) / 2)
    assert few < many


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": "0.5"}, "batch = '0.5', but it must be a number of at least 1"),
        ({"context": "inf"}, "context = 'inf'"),
        ({"tp": ""}, "tp = ''"),
        ({"llm": ""}, "llm is missing"),
    ],
)
def test_a_cell_that_says_nothing_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predict_step({**ROW, **change})


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="unknown GPU"):
        predict_step({**ROW, "gpu": "abacus"})
