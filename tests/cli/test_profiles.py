"""`loratwin profiles` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.perf import load_profile
from tests.cli.program import loratwin

LLAMA = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
ASSUME = ("profiles", "assume", "--gpu", "h100-sxm", "--llm", "qwen-3-8b", "--engine", "vllm-0.32.0")


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run with the user's profiles below a folder; exit code, stdout, stderr."""
    done = loratwin(*arguments, cwd=folder, env={"LORATWIN_PROFILES": str(folder / "home")})
    return done.returncode, done.stdout, done.stderr


def test_assume_compare_add_list_show(tmp_path: Path) -> None:
    """The whole way of a profile without measurement."""
    code, out, err = run(tmp_path, *ASSUME, "-o", "mine.yaml")
    name = "h100-sxm/vllm-0.32.0/qwen-3-8b"
    assert (code, out) == (0, f"{name}: mine.yaml\n")
    assert "is assumed, not measured" in err
    compared = run(tmp_path, "profiles", "compare", LLAMA, "mine.yaml")[1]
    assert f"B: {name} (assumed" in compared
    assert "KV cache" in compared
    assert run(tmp_path, "profiles", "add", "mine.yaml")[0] == 0
    names, long = (run(tmp_path, "profiles", "list", *how)[1].splitlines() for how in ((), ("--long",)))
    assert name in names
    assert LLAMA in names
    (line,) = [line for line in long if name in line]
    assert line.split()[:3] == [load_profile(str(tmp_path / "mine.yaml")).digest, "assumed", "yours"]
    shown = run(tmp_path, "profiles", "show", name)[1]
    assert "assumed" in shown
    assert "standard errors" in shown


def test_assume_learns_from_the_reference_that_it_is_given(tmp_path: Path) -> None:
    found = []
    for reference in (LLAMA, "h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct"):
        assert run(tmp_path, *ASSUME, "--reference", reference, "-o", "mine.yaml")[0] == 0
        found.append(load_profile(str(tmp_path / "mine.yaml")))
    assert [profile.card.source.split()[-1] for profile in found] == [
        "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct", "h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct",
    ]  # fmt: skip
    assert found[0].step_time.lora_s != found[1].step_time.lora_s
    again = run(tmp_path, *ASSUME, "--reference", "mine.yaml", "-o", "other.yaml")
    assert again == (2, "", "error: reference mine.yaml: it is assumed itself, but must be fitted to measurements\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ASSUME, "--reference", "nothing", "-o", "a.yaml"), "unknown profile 'nothing'"),
        (("profiles", "assume", "--gpu", "h100", "--llm", "phi-4", "-o", "a.yaml"), "unknown GPU 'h100'"),
        (("profiles", "assume", "--gpu", "l4", "--llm", "gpt-5", "-o", "a.yaml"), "unknown LLM 'gpt-5'"),
        ((*ASSUME, "-o", "a.txt"), "must end in .yaml"),
        ((*ASSUME, "-o", "absent/a.yaml"), "cannot write absent/a.yaml"),
        (("profiles", "add", "absent.yaml"), "absent.yaml: cannot be read"),
        (("profiles", "compare", LLAMA, "nothing"), "unknown profile 'nothing'"),
    ],
)
def test_refusals_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_profile_of_the_user_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "broken.yaml").write_text("junk")
    code, out, err = run(tmp_path, "profiles", "list", "--long")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if "broken" in line]
    assert line.split()[:4] == ["-", "damaged", "yours", "broken:"]
    assert str(tmp_path / "home" / "broken.yaml") in line and LLAMA in out


def test_a_folder_of_profiles_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, *ASSUME, "-o", "mine.yaml")[0] == 0
    (tmp_path / "home").write_text("a file")
    code, out, err = run(tmp_path, "profiles", "add", "mine.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("error: cannot make the folder ") and err.count("\n") == 1
