"""Profiles as files: what was written is read, and what cannot be read is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loratwin.errors import InputError
from loratwin.perf import dump_profile, load_profile, profile_names

NAMES = profile_names()


def test_both_measured_llms_have_a_profile() -> None:
    expected = [f"h100-64gb/vllm-0.8.5/{llm}" for llm in ("llama-3.1-8b-instruct", "qwen-2.5-7b-instruct")]
    assert set(expected) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_written_is_read_back(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    path = tmp_path / "mine.yaml"
    path.write_text(dump_profile(profile))
    again = load_profile(str(path))
    assert again == profile
    assert (again.digest, again.name) == (profile.digest, name)


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_of_what_predictions_depend_on(name: str) -> None:
    profile = load_profile(name)
    other_card = profile.model_copy(update={"card": profile.card.model_copy(update={"source": "elsewhere"})})
    assert other_card.digest == profile.digest
    faster = profile.step_time.model_copy(update={"weights_s": profile.step_time.weights_s / 2})
    assert profile.model_copy(update={"step_time": faster}).digest != profile.digest


def changed(key: str, value: object) -> str:
    """A shipped profile with one value changed; the key as step_time.weights_s."""
    data = yaml.safe_load(dump_profile(load_profile(NAMES[0])))
    *path, last = key.split(".")
    inner = data
    for part in path:
        inner = inner[part]
    inner[last] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("", "not a profile"),
        ("- 1\n", "not a profile"),
        ("a: [1,\n", "not YAML"),
        (("format", 2), "format 2; this version understands format 1"),
        (("step_time.weights_s", -1.0), "step_time.weights_s"),
        (("step_time.weights_s", float("nan")), "step_time.weights_s"),
        (("step_time.token_s", float("inf")), "step_time.token_s"),
        (("llm.num_layers", 10**12), "llm.num_layers"),
        (("domain.max_loras", [384, 1]), "domain.max_loras: the lower end comes first, but 384 > 1"),
        (("memory.extra_vocabulary", -256), "memory.extra_vocabulary"),
        (("step_time.slot_rnk_s", 1.0), "step_time.slot_rnk_s = 1.0: unknown key"),
        (("step_time", {}), "step_time.weights_s: this key is required"),
        ("format: 1\nname: " + 3000 * "[" + "\n", "not YAML"),
        (("step_time.unknown_s", 1.0), "step_time.unknown_s"),
        (("llm.num_layers", 0), "llm.num_layers"),
        (("engine", "vllm-9"), "engine"),
        (("domain.max_loras", [1]), "domain.max_loras"),
    ],
)
def test_a_damaged_or_newer_profile_is_refused_in_one_line(
    damage: str | tuple[str, object], message: str, tmp_path: Path
) -> None:
    """The damage is the whole text of the file, or a key and its value."""
    path = tmp_path / "damaged.yaml"
    path.write_text(damage if isinstance(damage, str) else changed(*damage))
    with pytest.raises(InputError) as refused:
        load_profile(str(path))
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_misspelt_key_is_said_beside_the_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "damaged.yaml"
    path.write_text(changed("format", 1).replace(" weights_s:", " wieghts_s:"))
    with pytest.raises(InputError, match="unknown key; weights_s is missing, was that meant?"):
        load_profile(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent.yaml: cannot be read"):
        load_profile(str(tmp_path / "absent.yaml"))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(InputError, match="unknown profile 'h100'.*Known: h100-64gb"):
        load_profile("h100")


def test_a_digest_is_of_the_profile_that_is_asked() -> None:
    one = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    frontend = one.frontend.model_copy(update={"overhead_s": 2 * one.frontend.overhead_s + 1.0})
    other = one.model_copy(update={"frontend": frontend})
    asked = [each.digest for each in (one, one, other, one, other)]
    assert asked == [one.digest, one.digest, other.digest, one.digest, other.digest]
    assert one.digest != other.digest
