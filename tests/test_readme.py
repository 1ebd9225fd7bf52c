"""The README's two commands, executed as a new user would.

The section 'Try it' holds two ```bash blocks of one command each. The first installs and ends with a plan; the second
runs the tests, and is a line of `.ci/run`.

The first is executed in a fresh copy of the repository. Usually without the parts that install: whoever runs this test
has the package already, and the program of this environment stands for the one of `.venv`. With LORATWIN_README_FULL=1,
which `.ci/run` sets, nothing is left out: it needs the package index and takes minutes.

Every day they are only read (by tests/pages, which runs the rest of the page); executed they are with LORATWIN_SLOW=1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slow import slow

ROOT = Path(__file__).parents[1]
FULL = os.environ.get("LORATWIN_README_FULL") == "1"
INSTALLING = re.compile(r"-m venv\b|\bpip install\b")


def commands(readme: str) -> list[str]:
    """The ```bash blocks of the section 'Try it', continued lines joined."""
    section = re.search(r"^## Try it$(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert section, "README.md has no section '## Try it'"
    blocks = re.findall(r"^```bash\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s*\\\n\s*", " ", block).strip() for block in blocks]


def without_installing(command: str) -> str:
    """A command whose parts that install are left out, and which uses this environment in place of `.venv`."""
    parts = [part.strip() for part in command.split("&&")]
    kept = " && ".join(part for part in parts if not INSTALLING.search(part))
    return kept.replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def fresh_copy(folder: Path) -> Path:
    """The repository as a clone would hold it (with changes not yet committed), in an empty folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode)
    return folder


def clean_environment() -> dict[str, str]:
    """The environment of a new terminal: nothing that points to this checkout."""
    return {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}


def test_there_are_two_commands() -> None:
    found = commands((ROOT / "README.md").read_text())
    assert len(found) == 2
    assert all("\n" not in command for command in found)


@slow
@pytest.mark.timeout(3600)  # it installs
def test_the_first_command_ends_with_a_plan_and_a_report(tmp_path: Path) -> None:
    command = commands((ROOT / "README.md").read_text())[0]
    folder = fresh_copy(tmp_path)
    done = subprocess.run(
        ["bash", "-c", command if FULL else without_installing(command)],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    reports = [folder / path for path in re.findall(r"\S+\.html", done.stdout)]
    assert reports, done.stdout
    assert all(report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>") for report in reports)


def test_the_second_command_is_what_ci_runs() -> None:
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    assert commands((ROOT / "README.md").read_text())[1] in lines


README = """
## Try it
Install, and plan:
```bash
python3 -m venv .venv && .venv/bin/pip install . \\
  && .venv/bin/loratwin plan x --html out.html
```
And
```bash
.venv/bin/python -m pytest
```
```python
no_command()
```
## More
```bash
other
```
"""


def test_commands_are_those_of_the_section_only() -> None:
    assert commands(README) == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/loratwin plan x --html out.html",
        ".venv/bin/python -m pytest",
    ]
    with pytest.raises(AssertionError, match="no section '## Try it'"):
        commands("# loratwin\n")


def test_what_installs_can_be_left_out() -> None:
    assert without_installing(commands(README)[0]) == f"{Path(sys.executable).parent}/loratwin plan x --html out.html"
