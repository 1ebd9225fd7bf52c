"""The README's two commands, executed as a new user would.

The section 'Try it' holds two ```bash blocks of one command each. The first installs and ends with a plan; the second
runs the tests, and is a line of `.ci/run`.

The first is executed in a fresh copy of the repository. Usually without the parts that install: whoever runs this test
has the package already, and the program of this environment stands for the one of `.venv`. With LORATWIN_README_FULL=1,
which `.ci/run` sets, nothing is left out: it needs the package index and takes minutes.

Every day the lines of the program are only read; executed they are with LORATWIN_SLOW=1.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.workload import load_spec
from tests.bench.servers import timed_server
from tests.cli.program import loratwin
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


def blocks(readme: str, language: str) -> list[str]:
    """The blocks of a language outside of the section 'Try it'."""
    rest = re.sub(r"^## Try it$.*?(?=^## |\Z)", "", readme, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)


def programs(readme: str) -> list[list[str]]:
    """The words of every line that calls the program."""
    lines = [line for block in blocks(readme, "bash") + commands(readme) for line in re.split(r"\n|&&", block)]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and Path(line[0]).name == "loratwin"]


def test_the_program_knows_all_that_it_is_shown_to_be_told() -> None:
    """Words are read before `--help` is obeyed."""
    shown = programs((ROOT / "README.md").read_text())
    assert len(shown) == 5
    for words in shown:
        done = loratwin(*words, "--help")
        assert done.returncode == 0, done.stderr
    assert loratwin(*shown[0], "--slots-of-gold", "3", "--help").returncode == 2


@slow
def test_everything_else_that_it_shows_runs(tmp_path: Path) -> None:
    """The workload file, then every line of the other bash blocks with it, then the Python blocks.

    The server at port 8000 is one of known timing at another port, and ten minutes are two seconds.
    """
    readme = (ROOT / "README.md").read_text()
    (workload,) = blocks(readme, "yaml")
    (tmp_path / "traffic.yaml").write_text(workload)
    shell = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), "PATH": path}
    assert len(shell) == 4 and len(blocks(readme, "python")) == 1
    names = [name for group in load_spec(tmp_path / "traffic.yaml").groups for name in group.adapter_names()]
    with timed_server(tmp_path, "llm", *names) as server:
        shell = [line.replace("http://127.0.0.1:8000", server.url).replace("600", "2") for line in shell]
        for command in [["bash", "-c", line] for line in shell] + [[sys.executable, "-c", blocks(readme, "python")[0]]]:
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.strip(), command
    for page in ("measured.html", "beside-the-twin.html"):
        assert (tmp_path / page).read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


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
