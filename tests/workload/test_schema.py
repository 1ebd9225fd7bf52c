"""What editors are told agrees with what is accepted; examples and the page's snippets are both valid and drawn."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import loratwin.workload
from loratwin.errors import InputError
from loratwin.workload import draw, example_names, example_path, load_spec, parse_spec, spec_json_schema
from tests.workload.json_schema import valid
from tests.workload.test_refusals import GROUP_CASES, group

SCHEMA = spec_json_schema()
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "workload.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.99,396,109\n"


def every_property(schema: Any) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        return [found for item in schema for found in every_property(item)]
    if not isinstance(schema, dict):
        return []
    here = list(schema["properties"].items()) if isinstance(schema.get("properties"), dict) else []
    return here + [found for item in schema.values() for found in every_property(item)]


def test_schema_is_json_and_describes_every_key() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    properties = every_property(SCHEMA)
    assert len(properties) > 50
    assert [name for name, part in properties if not part.get("description", "").endswith((".", "]", ")"))] == []
    assert all("title" not in part for _, part in properties)


def test_schema_knows_every_kind() -> None:
    kinds = {part["const"] for name, part in every_property(SCHEMA) if name == "kind"}
    assert kinds == {
        "poisson", "gamma", "deterministic", "on_off", "diurnal", "replay", "closed", "at_once", "equal", "zipf",
        "sharegpt", "fixed", "uniform", "lognormal", "histogram", "samples", "trace", "clients",
    }  # fmt: skip


@pytest.mark.parametrize("name", example_names())
def test_examples_are_valid_and_drawn(name: str) -> None:
    text = example_path(name).read_text(encoding="utf-8")
    assert valid(as_json(yaml.safe_load(text)), SCHEMA, SCHEMA)
    workload = draw(load_spec(f"example:{name}"))
    assert workload.requests_per_s == pytest.approx(workload.total_rate_per_s, rel=0.15)
    assert [line for line in text.splitlines() if re.search(r"^[^#]*: \S", line) and "  #" not in line] == []


def test_the_first_example_is_what_the_readme_promises() -> None:
    spec = load_spec("example:support-desk")
    assert spec.num_adapters == 128
    assert 8 <= spec.total_rate_per_s <= 10
    adapters = draw(spec).adapters
    assert set(adapters.rank.tolist()) == {8, 16}
    assert adapters.rate_per_s.max() > 50 * adapters.rate_per_s.min() > 0


def test_an_example_may_be_named_with_its_ending() -> None:
    assert load_spec("example:mixed-ranks.yaml") == load_spec("example:mixed-ranks")


def as_json(data: Any) -> Any:
    """YAML data as a JSON Schema validator sees it: keys are strings."""
    return json.loads(json.dumps(data))


def test_the_page_has_snippets() -> None:
    assert len(SNIPPETS) >= 10


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_of_the_page_work(tmp_path: Path, snippet: str) -> None:
    (tmp_path / "azure_llm_2023_conv.csv").write_text(TRACE)
    (tmp_path / "lengths.csv").write_text("lo,hi,count\n1,20,5\n")
    (tmp_path / "w.yaml").write_text(snippet)
    assert draw(load_spec(tmp_path / "w.yaml")).num_requests > 0
    assert valid(as_json(yaml.safe_load(snippet)), SCHEMA, SCHEMA)


def test_the_examples_in_the_package_work() -> None:
    assert doctest.testmod(loratwin.workload).attempted > 0
    assert doctest.testmod(loratwin.workload).failed == 0


def test_the_page_mentions_every_key_and_kind() -> None:
    for name, part in every_property(SCHEMA):
        assert f"`{name}`" in PAGE or f"{name}:" in PAGE, name
        if name == "kind":
            assert part["const"] in PAGE


SEVERAL_KEYS = (
    "must have",
    "is for",
    "is used",
    "is reserved",
    "shares",
    "asks for",
    "belongs",
    "nan",
    "inf",
    "a letter",
    "unless names",
)
"""Words of refusals that an editor cannot give: they concern several keys at once, or what JSON does not have."""
ONE_KEY = [changes for changes, message in GROUP_CASES if not any(word in message for word in SEVERAL_KEYS)]


@pytest.mark.parametrize("changes", ONE_KEY, ids=[str(changes)[:60] for changes in ONE_KEY])
def test_an_editor_sees_what_is_wrong_with_one_key(changes: dict[str, Any]) -> None:
    assert not valid(as_json(group(**changes)), SCHEMA, SCHEMA)


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.csv").write_text("arrival_s\n1\n")
    file = {"groups": [{"name": "a", "count": 1, "arrivals": {"kind": "replay", "path": "t.csv"}}]}
    (tmp_path / "in" / "w.yaml").write_text(yaml.safe_dump(file))
    monkeypatch.chdir(tmp_path)
    assert draw(load_spec("in/w.yaml")).num_requests == 1
    with pytest.raises(InputError, match="no such file"):
        parse_spec(file)
    monkeypatch.chdir(tmp_path / "in")
    assert draw(parse_spec(file)).num_requests == 1
