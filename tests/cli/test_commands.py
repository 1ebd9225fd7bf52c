"""The small commands: schema and examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.workload import example_names, example_path, load_spec
from loratwin.workload.examples import first_comment
from tests.cli.program import loratwin


def test_schema_is_a_json_schema() -> None:
    schema = json.loads(loratwin("schema").stdout)
    assert schema["type"] == "object"
    assert "groups" in schema["properties"]


def test_examples_are_listed_with_what_they_are() -> None:
    lines = loratwin("examples").stdout.splitlines()
    assert [line.split()[0] for line in lines] == example_names()
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("name", example_names())
def test_an_example_is_printed_as_it_is(name: str) -> None:
    assert loratwin("examples", name).stdout == example_path(name).read_text()


@pytest.mark.parametrize("name", example_names())
def test_a_copied_example_works_where_it_is(name: str, tmp_path: Path) -> None:
    done = loratwin("examples", name, "--copy", ".", cwd=tmp_path)
    assert set(done.stdout.split()) == {item.name for item in tmp_path.iterdir()}
    load_spec(tmp_path / f"{name}.yaml")


def test_a_copy_overwrites_nothing_and_is_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "trace-replay.yaml").write_text("mine")
    done = loratwin("examples", "trace-replay", "--copy", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}/trace-replay.yaml is there already; nothing copied\n"
    assert [item.name for item in tmp_path.iterdir()] == ["trace-replay.yaml"]
    assert (tmp_path / "trace-replay.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--copy", "."], "--copy needs the name"), (["support-desk", "--copy", "absent"], "cannot write absent")],
)
def test_a_copy_that_cannot_be_made(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = loratwin("examples", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_example_lists_the_known() -> None:
    done = loratwin("examples", "no-such")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown example 'no-such'.")
    assert all(name in done.stderr for name in example_names())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# yaml-language-server: $schema=x.json\n#\n# Chat for all.\n# More.\na: 1\n", "Chat for all."),
        ("a: 1\n", ""),
    ],
)
def test_what_an_example_says_of_itself(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    assert first_comment(path) == expected
