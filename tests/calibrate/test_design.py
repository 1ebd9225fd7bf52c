"""Designs: what varies apart from what, budgets, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.design import LEAST_WINDOW_S, Design, dump_design, load_design, make_design
from loratwin.errors import InputError
from loratwin.workload import Adapters
from tests.calibrate.known_steps import ADAPTERS


def design(minutes: float = 5.0) -> Design:
    return make_design(16, (8, 16), 16, 1024, 60 * minutes)


def test_a_full_design_varies_each_thing_apart_from_the_others() -> None:
    few, many, rank = design().servers
    assert few.max_lora_rank == many.max_lora_rank and few.max_cpu_loras == many.max_cpu_loras == 16
    assert few.max_loras < many.max_loras  # slots, nothing else
    assert rank.max_lora_rank == 32 and rank.max_cpu_loras < 16  # loads from disk, and another rank
    shapes = {(run.in_flight, run.adapters) for run in few.runs}
    assert {(16, 1), (16, 2), (1, 1), (32, 16), (8, 0)} <= shapes  # batch, distinct adapters, swap-ins, no adapter
    assert any(run.adapters < many.max_loras for run in many.runs)  # slots apart from distinct adapters
    longest = max(run.prompt_tokens[1] + run.output_tokens[1] for server in design().servers for run in server.runs)
    assert longest <= 1024


@pytest.mark.parametrize("minutes", [1.0, 1.5, 2.5, 4.0, 8.0, 30.0])
def test_a_budget_is_kept_and_what_is_left_out_is_the_end(minutes: float) -> None:
    made, whole = design(minutes), design(30.0)
    assert made.seconds() <= 60 * minutes
    names = [(server.name, run.name) for server in made.servers for run in server.runs]
    every = [(server.name, run.name) for server in whole.servers for run in server.runs]
    assert [name for name in every if name in names] == names
    assert names[:3] == every[:3]
    assert all(run.window_s >= LEAST_WINDOW_S for server in made.servers for run in server.runs)


def test_the_longest_context_of_an_llm_is_not_what_a_short_run_can_measure() -> None:
    """Long contexts are an LLM's default: a batch of such prompts would take minutes, and more than the KV cache."""
    made = make_design(16, (8, 16), 256, 131_072, 420.0)
    longest = max(run.prompt_tokens[1] + run.output_tokens[1] for server in made.servers for run in server.runs)
    assert 2048 < longest <= 4096


def test_a_budget_that_is_left_over_repeats_the_runs_before_it_lengthens_them() -> None:
    passes = [design(minutes).passes for minutes in (4.0, 7.0, 12.0, 60.0)]
    assert passes == [1, 2, 3, 3]
    assert design(7.0).num_runs == 2 * design(4.5).num_runs
    windows = [design(minutes).servers[0].runs[0].window_s for minutes in (7.0, 12.0, 60.0)]
    assert 4.5 <= windows[0] < windows[2] == 60.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((16, (8,), 16, 1024, 30.0), "minutes hold no calibration: at least"),
        ((16, (8,), 16, 1024, float("nan")), "the minutes of a calibration must be a number"),
        ((0, (8,), 16, 1024, 300.0), "needs adapters"),
        ((4, (1000,), 16, 1024, 300.0), "no vLLM holds more than 512"),
        ((4, (8,), 16, 32, 300.0), "needs 64 tokens"),
    ],
)
def test_what_cannot_be_designed_is_refused(
    arguments: tuple[int, tuple[int, ...], int, int, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_design(*arguments)


def test_a_run_asks_for_its_adapters_in_equal_shares_and_within_its_lengths() -> None:
    run = design().servers[0].runs[2]
    drawn = run.workload(ADAPTERS, 3)
    assert np.ptp(np.bincount(drawn.adapter, minlength=16)) <= 1
    assert drawn.prompt_tokens.min() >= run.prompt_tokens[0] and drawn.prompt_tokens.max() <= run.prompt_tokens[1]
    assert drawn.digest == run.workload(ADAPTERS, 3).digest != run.workload(ADAPTERS, 4).digest
    base = next(each for each in design().servers[0].runs if each.name == "base").workload(ADAPTERS, 0)
    assert (base.adapter == -1).all()


def test_the_first_adapters_have_all_ranks_among_them() -> None:
    """Folders hold their adapters rank by rank as well as in turn; a batch of few shall not be of one rank alone."""
    ranks = np.array([8] * 8 + [32] * 8, dtype=np.int32)
    sorted_by_rank = Adapters(ADAPTERS.name, ranks, ADAPTERS.rate_per_s, ADAPTERS.group)
    run = design().servers[1].runs[2]
    for adapters in (ADAPTERS, sorted_by_rank):
        who = np.unique(run.workload(adapters, 0).adapter)
        assert len(who) == run.adapters == 4
        assert sorted(adapters.rank[who]) == sorted([*sorted(set(adapters.rank.tolist()))] * 2)


def test_more_adapters_than_the_server_has_are_refused() -> None:
    run = design().servers[0].runs[2].model_copy(update={"adapters": 17})
    with pytest.raises(InputError, match="needs 17 adapters, and the server has 16"):
        run.workload(ADAPTERS, 0)


def test_a_design_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(dump_design(design()))
    assert load_design(path) == design()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("servers: [", "not YAML"),
        ("", "design.yaml: must be a mapping of keys to values"),
        (dump_design(design()).replace("num_adapters", "num_adaptors"), "unknown key; did you mean 'num_adapters'"),
        ("num_adapters: 3", "max_num_seqs"),
        (dump_design(design()).replace("format: 1", "format: 2"), "format 2; this version understands format 1"),
        (dump_design(design()).replace("in_flight: 16", "in_flight: 0", 1), "in_flight"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "design.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_design(path)
