"""The file of a model, what it predicts, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from loratwin.errors import DataError, InputError
from loratwin.learn.cases.case import Case, Mix, mix_of
from loratwin.learn.cases.design import LLAMA, PROFILES, design
from loratwin.learn.cases.physics import most_adapters
from loratwin.learn.models.model import LearnedModel, dump_model, load_model, save_model
from loratwin.learn.models.process import Process
from loratwin.learn.models.targets import TARGETS
from loratwin.learn.training import train as train_module
from loratwin.learn.training.train import train
from loratwin.perf import load_profile
from tests.learn.small import PROFILE, made_up
from tests.slow import SLOW, slow

SMALL = {name: (10, 6) for name in train_module.SIZES}


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "SIZES", SMALL)
    if not SLOW:
        monkeypatch.setattr(train_module, "OUTER", 2)


@cache
def learned() -> LearnedModel:
    return train(made_up(40 if SLOW else 24))


def rewritten(tmp_path: Path, **changes: object) -> Path:
    """The same file with another header; a key of None is left out."""
    target = tmp_path / "changed.npz"
    with zipfile.ZipFile(io.BytesIO(dump_model(learned()))) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "header.json":
                header = {**json.loads(data), **changes}
                data = json.dumps({key: value for key, value in header.items() if value is not None}).encode()
            new.writestr(name, data)
    return target


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save_model(learned(), tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    assert again.header == learned().header
    assert dump_model(again) == dump_model(learned())


@slow
def test_training_again_gives_the_same_bytes() -> None:
    assert dump_model(train(made_up(40))) == dump_model(learned())


def test_errors_are_held_out_and_said_for_every_target() -> None:
    header = learned().header
    assert set(header.held_out) == set(header.interval_factor) == set(TARGETS)
    assert "starvation F1" in header.held_out["share"]
    assert all(factor >= 1 for factor in header.interval_factor.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "format 1; this version understands format 2: train again or upgrade"),
        ({"format": 3}, "format 3; this version understands format 2: train again or upgrade"),
        ({"format": None}, "format None; this version understands format 2"),
        ({"workload_features": ["rate_mean"]}, "other workload features than this version computes"),
        ({"configuration_features": []}, "other configuration features than this version computes"),
        ({"interval_factor": {}}, "nothing on 'itl': train again"),
        ({"ranges": None}, "not a learned model of loratwin, or damaged"),
        ({"surprise": 1}, "not a learned model of loratwin, or damaged"),
    ],
)
def test_another_version_is_one_clear_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_model(rewritten(tmp_path, **changes))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 5000, -30])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, keep: int) -> None:
    (tmp_path / "model.npz").write_bytes(dump_model(learned())[:keep])
    with pytest.raises(DataError, match="not a learned model of loratwin, or damaged") as caught:
        load_model(tmp_path / "model.npz")
    assert "\n" not in str(caught.value)


def test_a_file_without_a_target_is_one_clear_line(tmp_path: Path) -> None:
    target = tmp_path / "short.npz"
    with zipfile.ZipFile(io.BytesIO(dump_model(learned()))) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if not name.startswith("ttft/"):
                new.writestr(name, old.read(name))
    with pytest.raises(DataError, match="short.npz: nothing on the target 'ttft': train again"):
        load_model(target)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("served/points", "target 'served': a process without 'points'"),
        ("share/left", "target 'share': a forest without"),
    ],
)
def test_a_target_without_a_part_is_one_clear_line(tmp_path: Path, left_out: str, message: str) -> None:
    target = tmp_path / "short.npz"
    with zipfile.ZipFile(io.BytesIO(dump_model(learned()))) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name != f"{left_out}.npy":
                new.writestr(name, old.read(name))
    with pytest.raises(DataError, match=f"short.npz: {message}"):
        load_model(target)


def test_no_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        load_model(tmp_path / "nothing.npz")


# --- the model that ships


def test_the_shipped_model_is_small_and_knows_both_profiles() -> None:
    data = files("loratwin.learn").joinpath("models").joinpath("default.npz").read_bytes()
    assert len(data) < 500_000
    assert set(load_model().header.profiles) == set(PROFILES)


def test_the_shipped_model_was_learned_from_the_shipped_profiles() -> None:
    mix = mix_of(design("published", 1)[0])
    for name in PROFILES:
        assert not [note for note in load_model().outside(mix, load_profile(name)) if "coefficients" in note]


def heavier(mix: Mix, factor: float) -> Mix:
    return replace(mix, rate_per_s=mix.rate_per_s * factor)


def of_rank(mix: Mix, rank: int) -> Mix:
    return replace(mix, rank_mean=float(rank), rank_std=0.0, rank_min=rank, rank_max=rank, max_lora_rank=rank)


SCANNED = [*design("published", 16, seed=3), *design("broad", 24, seed=3)]


def never_more(case: Case, mixes: Iterable[Mix]) -> bool:
    profile = load_profile(case.profile)
    found = [load_model().workload_figure("served", mix, profile) for mix in mixes]
    return bool((np.diff(found) <= 1e-9 * np.array(found[1:])).all())


@pytest.mark.parametrize("case", SCANNED, ids=lambda case: case.name)
def test_more_load_never_means_more_adapters(case: Case) -> None:
    """Nothing but the data makes the process keep to it: hence a close scan, far beyond what was learned."""
    mix = mix_of(case)
    assert never_more(case, (heavier(mix, f) for f in np.geomspace(1 / 64, 64, 49)))


@pytest.mark.parametrize("case", SCANNED, ids=lambda case: case.name)
def test_higher_ranks_never_mean_more_adapters(case: Case) -> None:
    for factor in (1 / 16, 1, 4):
        mix = heavier(mix_of(case), factor)
        assert never_more(case, (of_rank(mix, rank) for rank in (8, 16, 32, 64, 128, 256)))


def test_far_from_what_was_learned_the_answer_is_the_estimate_times_a_constant() -> None:
    mix, part = mix_of(design("published", 1)[0]), load_model().parts["served"]
    assert isinstance(part, Process)
    far = replace(mix, arrivals_cv=1e6, prompt_mean=mix.prompt_mean * 1e6, rate_per_s=mix.rate_per_s * 1e-6)
    estimate = most_adapters(far, PROFILE).adapters * np.exp(part.constant)
    assert load_model().workload_figure("served", far, PROFILE) == pytest.approx(estimate, rel=0.01)


def test_a_served_share_lies_between_0_and_1_and_falls_with_load() -> None:
    mix = mix_of(design("published", 1)[0])
    counts = [4, 16, 64, 256, 1024]
    seen = load_model().figures(mix, PROFILE, counts, [4] * 5)
    assert ((seen.share >= 0) & (seen.share <= 1)).all() and seen.share[0] > 0.95 > 0.5 > seen.share[-1]
    assert seen.tpot_ms[0] < seen.tpot_ms[2]


def test_in_overload_a_throughput_is_served_and_not_a_share() -> None:
    mix = mix_of(next(case for case in design("published", 20) if case.profile == LLAMA))
    most = round(load_model().workload_figure("served", mix, PROFILE))
    counts = np.array([3, 4, 6]) * most
    seen = load_model().figures(mix, PROFILE, counts, [16] * 3)
    served = seen.share * counts
    assert served[1:] == pytest.approx(served[0], rel=0.25) and seen.share[0] < 0.4  # not 2 times as much


def test_servers_that_do_not_start_are_marked() -> None:
    mix = replace(mix_of(design("published", 1)[0]), max_lora_rank=32)
    assert load_model().figures(mix, PROFILE, [600, 600], [512, 16]).starts.tolist() == [0, 1]


def test_what_was_not_learned_is_said() -> None:
    mix = mix_of(design("published", 1)[0])
    assert load_model().outside(mix, PROFILE) == ()
    (note,) = load_model().outside(replace(mix, arrivals_cv=9.0), PROFILE)
    assert note == "outside what was learned: arrivals_cv = 9, learned 1 to 4"
    other = PROFILE.model_copy(update={"name": "h200/vllm/other"})
    assert "outside what was learned: profile h200/vllm/other" in load_model().outside(mix, other)[0]
    slow = PROFILE.model_copy(update={"step_time": PROFILE.step_time.scaled(1.1)})
    assert f"learned from other coefficients of {LLAMA}: train again" in load_model().outside(mix, slow)
