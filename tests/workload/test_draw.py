"""The contract of drawn workloads: order, types, the same arrays everywhere, one stream for each purpose."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.workload import BASE, Workload, WorkloadSpec, draw, uniform_groups
from tests.slow import SLOW

ALL_KINDS: dict[str, Any] = {
    "window_s": 200,
    "base": {"rate": 1, "lengths": {"prompt": {"kind": "uniform", "min": 3, "max": 9}, "output": 4}},
    "groups": [
        {"name": "a", "count": 5, "total_rate": 2, "popularity": "zipf", "ranks": [8, 16]},
        {"name": "b", "count": 3, "rate": 0.3, "arrivals": {"kind": "gamma", "cv": 2}},
        {"name": "c", "count": 2, "rate": 0.5, "arrivals": "deterministic", "lengths": {"prompt": 9, "output": 3}},
        {"name": "d", "count": 2, "rate": 0.4, "arrivals": {"kind": "on_off", "on_s": 5, "off_s": 20}},
        {"name": "e", "count": 2, "rate": 0.6, "arrivals": {"kind": "diurnal", "amplitude": 0.5}},
    ],
}


def digest(workload: Workload) -> str:
    """SHA-256 of the arrays of a workload."""
    arrays: list[Any] = [workload.arrival_s, workload.adapter, workload.prompt_tokens, workload.output_tokens]
    arrays += [workload.adapters.rank, workload.adapters.rate_per_s, workload.adapters.group]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def same_requests(one: Workload, other: Workload, *names: str) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


PINNED = "cb94da09940c9d26476e3b35997e5940cfe8025c30147db556e91be1e2be696f"
PINNED_NUM, PINNED_ADAPTERS = 663, [5, 1, 7, 6, 8]

REQUEST = ("arrival_s", "adapter", "prompt_tokens", "output_tokens")


def test_arrays_keep_the_contract() -> None:
    workload = draw(WorkloadSpec.model_validate(ALL_KINDS), 7)
    assert [getattr(workload, name).dtype for name in REQUEST] == [np.float64, np.int32, np.int32, np.int32]
    assert {getattr(workload, name).shape for name in REQUEST} == {(workload.num_requests,)}
    assert np.all(np.diff(workload.arrival_s) >= 0)
    assert workload.arrival_s[0] >= 0 and workload.arrival_s[-1] < 200
    assert set(workload.adapter.tolist()) == set(range(BASE, 14))
    assert workload.prompt_tokens.min() >= 1 and workload.output_tokens.min() >= 1
    assert (workload.window_s, workload.seed) == (200, 7)
    adapters = workload.adapters
    assert len(adapters) == 14 and len(set(adapters.name)) == 14
    assert adapters.name[:6] == ("a-0", "a-1", "a-2", "a-3", "a-4", "b-0")
    assert [adapters.rank.dtype, adapters.rate_per_s.dtype, adapters.group.dtype] == [np.int32, np.float64, np.int32]
    assert adapters.group.tolist() == [0] * 5 + [1] * 3 + [2, 2, 3, 3, 4, 4]
    assert adapters.rank.tolist() == [8, 16, 8, 16, 8] + [8] * 9


def test_arrays_are_read_only_also_in_another_process() -> None:
    workload = draw(WorkloadSpec.model_validate(ALL_KINDS))
    for copy in (workload, pickle.loads(pickle.dumps(workload))):
        assert digest(copy) == digest(workload)
        for array in (copy.arrival_s, copy.adapter, copy.prompt_tokens, copy.adapters.rank):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_totals() -> None:
    workload = draw(WorkloadSpec.model_validate(ALL_KINDS), 2)
    tokens = int(workload.prompt_tokens.sum()) + int(workload.output_tokens.sum())
    assert workload.offered_tokens_per_s == pytest.approx(tokens / 200)
    assert workload.requests_per_s == workload.num_requests / 200
    assert workload.total_rate_per_s == pytest.approx(1 + 2 + 0.9 + 1 + 0.8 + 1.2)
    assert WorkloadSpec.model_validate(ALL_KINDS).total_rate_per_s == pytest.approx(workload.total_rate_per_s)


def test_offered_tokens_do_not_overflow() -> None:
    lengths = {"prompt": 10_000_000, "output": 10_000_000}
    workload = draw(WorkloadSpec(window_s=1000, lengths=lengths, base={"rate": 1, "arrivals": "deterministic"}))
    assert workload.offered_tokens_per_s == 2e7


def test_the_same_seed_gives_the_same_arrays_in_another_process() -> None:
    code = (
        "from tests.workload.test_draw import *;"
        "print(digest(draw(WorkloadSpec.model_validate(ALL_KINDS), 11)))"
    )  # another value of PYTHONHASHSEED in each process
    there = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2 if SLOW else 1)
    ]
    here = digest(draw(WorkloadSpec.model_validate(ALL_KINDS), 11))
    assert [run.stdout.strip() for run in there] == [here] * len(there)
    assert here != digest(draw(WorkloadSpec.model_validate(ALL_KINDS), 12))


def test_arrays_are_pinned() -> None:
    """Whoever changes the drawing changes everybody's results: then say so in the changelog, and pin anew.

    Poisson arrivals and ShareGPT lengths only: they are the same to the last bit with any mathematical library.
    """
    spec = uniform_groups([0.05, 0.2], [6, 4], [8, 16, 32], 100, 50, 600)
    workload = draw(spec, 42)
    assert (workload.num_requests, workload.adapter[:5].tolist()) == (PINNED_NUM, PINNED_ADAPTERS)
    assert digest(workload) == PINNED


def changed(**groups: dict[str, Any]) -> WorkloadSpec:
    """ALL_KINDS with some keys of some groups changed."""
    new = [{**group, **groups.get(group["name"], {})} for group in ALL_KINDS["groups"]]
    return WorkloadSpec.model_validate({**ALL_KINDS, "groups": new})


def test_other_lengths_leave_arrivals_alone() -> None:
    before = draw(WorkloadSpec.model_validate(ALL_KINDS), 3)
    after = draw(WorkloadSpec.model_validate({**ALL_KINDS, "lengths": {"prompt": 5, "output": 5}}), 3)
    assert same_requests(before, after, "arrival_s", "adapter")
    assert not same_requests(before, after, "prompt_tokens")


def test_other_prompts_leave_outputs_alone() -> None:
    def lengths(prompt: Any) -> dict[str, Any]:
        return {"prompt": prompt, "output": {"kind": "uniform", "min": 1, "max": 99}}

    before = draw(changed(a={"lengths": lengths(3)}))
    for prompt in (4, {"kind": "uniform", "min": 1, "max": 9}, {"kind": "lognormal", "mean": 9, "std": 3}):
        assert same_requests(
            before, draw(changed(a={"lengths": lengths(prompt)})), "arrival_s", "adapter", "output_tokens"
        )


@pytest.mark.parametrize(
    "law",
    [
        {"kind": "sharegpt", "correlation": 0},
        {side: {"kind": "uniform", "min": 1, "max": 99} for side in ("prompt", "output")},
    ],
)
def test_prompts_outputs_and_gaps_are_independent(law: Any) -> None:
    workload = draw(WorkloadSpec(lengths=law, groups=[{"name": "g", "count": 2, "rate": 3}]), 1)
    gaps = np.diff(workload.arrival_s, prepend=0)
    table = np.corrcoef([gaps, workload.adapter, workload.prompt_tokens, workload.output_tokens])
    assert np.abs(table[np.triu_indices(4, 1)]).max() < 4 / np.sqrt(workload.num_requests)


def test_a_further_group_or_another_order_leaves_the_groups_alone() -> None:
    before = draw(WorkloadSpec.model_validate(ALL_KINDS), 3)
    new = {"name": "new", "count": 4, "rate": 1}
    groups = [ALL_KINDS["groups"][1], new, *ALL_KINDS["groups"][:1], *ALL_KINDS["groups"][2:]]
    after = draw(WorkloadSpec.model_validate({**ALL_KINDS, "groups": groups}), 3)
    old = [after.adapters.name.index(name) for name in before.adapters.name]
    assert after.num_requests > before.num_requests
    assert same_requests(before, after.take_adapters(old), *REQUEST)


def test_groups_that_are_alike_do_not_get_the_same_requests() -> None:
    groups = [{"name": name, "count": 1, "rate": 1} for name in ("x", "y")]
    workload = draw(WorkloadSpec(window_s=1000, groups=groups))
    one, other = (workload.arrival_s[workload.adapter == a] for a in (0, 1))
    assert not np.intersect1d(one, other).size


class TestTakeAdapters:
    workload = draw(WorkloadSpec.model_validate(ALL_KINDS), 4)

    def test_takes_their_requests_and_keeps_the_base(self) -> None:
        taken = self.workload.take_adapters([9, 2])
        assert taken.adapters.name == ("c-1", "a-2")
        assert taken.adapters.rank.tolist() == self.workload.adapters.rank[[9, 2]].tolist()
        for new, old in ((0, 9), (1, 2), (BASE, BASE)):
            for name in ("arrival_s", "prompt_tokens", "output_tokens"):
                before = getattr(self.workload, name)[self.workload.adapter == old]
                assert np.array_equal(getattr(taken, name)[taken.adapter == new], before)
        assert set(taken.adapter.tolist()) == {BASE, 0, 1}
        assert np.all(np.diff(taken.arrival_s) >= 0)
        assert taken.total_rate_per_s == pytest.approx(1 + self.workload.adapters.rate_per_s[[9, 2]].sum())

    def test_all_of_them_is_the_same_workload(self) -> None:
        assert digest(self.workload.take_adapters(range(14))) == digest(self.workload)

    def test_none_leaves_the_base(self) -> None:
        taken = self.workload.take_adapters([])
        assert set(taken.adapter.tolist()) == {BASE} and len(taken.adapters) == 0

    def test_ties_are_in_the_new_order(self) -> None:
        arrival_s, tokens = np.array([1.0, 1.0, 2.0]), np.ones(3, np.int32)
        adapters = self.workload.adapters.take(np.array([0, 1], np.int32))
        tied = Workload(arrival_s, np.array([0, 1, 0], np.int32), tokens, tokens, adapters, 3.0, 0)
        assert tied.take_adapters([1, 0]).adapter.tolist() == [0, 1, 1]

    @pytest.mark.parametrize("indices", [[14], [-1], [0, 99]])
    def test_refuses_unknown_adapters(self, indices: list[int]) -> None:
        with pytest.raises(InputError, match="must be from 0 to 13"):
            self.workload.take_adapters(indices)

    def test_refuses_an_adapter_twice(self) -> None:
        with pytest.raises(InputError, match="given twice"):
            self.workload.take_adapters([1, 2, 1])
