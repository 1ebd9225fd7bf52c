"""Placements: what they hold, what is refused, and that files give back what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.fleet import Placement, Server, load_placement, placement_json, save_placement
from loratwin.fleet.files import same_placement
from tests.fleet.fleets import placement, servers


def test_who_lives_where() -> None:
    known = placement()
    assert known.num_replicas().tolist() == [2, 2, 1]
    assert known.num_hosted().tolist() == [2, 1, 2]
    assert known.load(np.array([10.0, 2.0, 1.0]), base_rate=4.0).tolist() == pytest.approx([5.0, 9.0, 3.0])
    assert known.price_per_h == 7.5
    entries = known.entries_for(0)
    assert known.server[entries].tolist() == [0, 1]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    known = placement()
    assert same_placement(load_placement(save_placement(known, tmp_path / "p.json")), known)
    in_a_plan = tmp_path / "plan.json"
    in_a_plan.write_text(json.dumps({"kind": "fleet plan", "placement": placement_json(known)}))
    assert same_placement(load_placement(in_a_plan), known)


def broken(**changes: Any) -> dict[str, Any]:
    return placement_json(placement()) | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "must be a JSON object"),
        (broken(format=2), "format 2, but this loratwin reads placements of format 1"),
        (broken(servrs=[]), "servrs"),
        (broken(servers=[], adapters={}, base=None), "servers: there must be one at least"),
        (broken(adapters={"hot": {"gpu-9": 1.0}}), "no server is called 'gpu-9'"),
        (broken(adapters={"hot": {"gpu-0": 0.5}}), "fractions add up to 0.5"),
        (broken(adapters={"hot": {}}), "fractions add up to 0"),
        (broken(adapters={"hot": {"gpu-0": 1.5, "gpu-1": -0.5}}), "must be from 0 to 1"),
        (broken(base={"gpu-0": 0.5}), "adapter base: its fractions add up to 0.5"),
        (broken(adapters={"base": {"gpu-0": 1}}), "reserved"),
    ],
)
def test_what_is_malformed_is_refused_in_one_line(data: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message) as refused:
        load_placement(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def test_a_limit_of_the_engine_is_refused_with_the_file(tmp_path: Path) -> None:
    data = broken()
    data["servers"][0]["config"]["max_loras"] = -1
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="max_loras"):
        load_placement(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_placement(path)


def test_names_and_entries_must_differ() -> None:
    with pytest.raises(InputError, match="server 'gpu-0' is named twice"):
        Placement.of([*servers(1), Server("gpu-0", "x", servers(1)[0].config)], {"a": {"gpu-0": 1.0}})
    with pytest.raises(InputError, match="listed twice on server 'gpu-0'"):
        Placement(servers(1), ("a",), np.zeros(2, np.int32), np.zeros(2, np.int32), np.array([0.5, 0.5]))
    with pytest.raises(InputError, match="an entry's server must be from 0 to 0"):
        Placement(servers(1), ("a",), np.zeros(1, np.int32), np.ones(1, np.int32), np.ones(1))
