"""The user's own profiles, and two of them side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loratwin.errors import InputError
from loratwin.perf import Profile, add_profile, compare_profiles, dump_profile, load_profile, profile_names
from loratwin.perf.profile import user_folder

LLAMA = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
QWEN = load_profile("h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's profiles."""
    monkeypatch.setenv("LORATWIN_PROFILES", str(tmp_path / "home"))
    return tmp_path / "home"


def written(folder: Path, profile: Profile) -> str:
    (folder / "some.yaml").write_text(dump_profile(profile))
    return str(folder / "some.yaml")


def named(name: str) -> Profile:
    return LLAMA.model_copy(update={"name": name})


def test_an_added_profile_is_found_by_its_name(tmp_path: Path, home: Path) -> None:
    mine = named("my-gpu/vllm-0.8.5/mine")
    _, path = add_profile(written(tmp_path, mine))
    assert path == home / "my-gpu__vllm-0.8.5__mine.yaml"
    assert mine.name in profile_names()
    assert load_profile(mine.name) == mine


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    mine = named("my-gpu/vllm-0.8.5/mine")
    add_profile(written(tmp_path, mine))
    other = mine.model_copy(update={"step_time": QWEN.step_time})
    with pytest.raises(InputError, match="is there already"):
        add_profile(written(tmp_path, other))
    assert load_profile(mine.name) == mine
    add_profile(written(tmp_path, other), replace=True)
    assert load_profile(mine.name) == other


def test_a_shipped_profile_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the name of a shipped profile"):
        add_profile(written(tmp_path, LLAMA))


@pytest.mark.parametrize("name", ["../escape", "a//b", ".hidden", "a/../b", "a b", ""])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path, home: Path) -> None:
    with pytest.raises(InputError, match="profile name"):
        add_profile(written(tmp_path, named(name)))
    assert not home.exists()


def test_a_profile_changed_by_hand_is_refused_until_its_hash_is_removed(tmp_path: Path) -> None:
    path = Path(written(tmp_path, named("my/vllm-0.8.5/mine")))
    data = yaml.safe_load(path.read_text())
    data["step_time"]["weights_s"] *= 2
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match="hash is .* changed by hand"):
        add_profile(str(path))
    del data["hash"]
    path.write_text(yaml.safe_dump(data))
    assert add_profile(str(path))[0].step_time.weights_s == 2 * LLAMA.step_time.weights_s


def test_the_card_may_be_changed_by_hand(tmp_path: Path) -> None:
    path = Path(written(tmp_path, named("my/vllm-0.8.5/mine")))
    data = yaml.safe_load(path.read_text())
    data["card"]["notes"] = ["measured on a Sunday"]
    path.write_text(yaml.safe_dump(data))
    assert add_profile(str(path))[0].card.notes == ("measured on a Sunday",)


def test_what_is_no_yaml_file_is_refused() -> None:
    with pytest.raises(InputError, match="ends in .yaml"):
        add_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LORATWIN_PROFILES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "loratwin" / "profiles"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() == tmp_path / ".local" / "share" / "loratwin" / "profiles"


def test_profiles_are_compared_in_readable_units() -> None:
    rows = {row.name: row for row in compare_profiles(LLAMA, QWEN)}
    weights = rows["weights"]
    assert weights.unit == "ms"
    assert weights.first == pytest.approx(LLAMA.step_time.weights_s * 1e3)
    assert weights.difference == pytest.approx(QWEN.step_time.weights_s / LLAMA.step_time.weights_s - 1)
    assert rows["context"].unit == "ns"
    assert rows["slot_rank"].difference is None  # from nothing to something
    assert rows["128 slots"].second > rows["128 slots"].first


def test_every_coefficient_is_compared() -> None:
    compared = {row.name for row in compare_profiles(LLAMA, QWEN)}
    names = set(type(LLAMA.step_time).model_fields) | set(type(LLAMA.loading).model_fields)
    assert {name.removesuffix("_s") for name in names} <= compared


def test_a_profile_differs_from_itself_in_nothing() -> None:
    assert {row.difference for row in compare_profiles(LLAMA, LLAMA)} <= {0.0, None}
