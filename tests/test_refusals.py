"""What pydantic refuses, as one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loratwin.refusals import one_line


class Wheel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    spokes: int = Field(ge=0)
    hub: str = "steel"


class Bicycle(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    wheels: list[Wheel]


def refused(data: dict[str, Any], model: type[BaseModel] = Bicycle, known: tuple[str, ...] = ()) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return one_line(caught.value, data, "bicycle.yaml", known)


def test_key_path_value_and_rule() -> None:
    wheels = [{"spokes": 32}, {"spokes": -1}]
    assert refused({"name": "b", "wheels": wheels}) == (
        "bicycle.yaml: wheels[1].spokes = -1: must be greater than or equal to 0"
    )


def test_further_problems_are_counted() -> None:
    assert refused({"wheels": []}) == "bicycle.yaml: name: this key is required"
    assert refused({}) == "bicycle.yaml: name: this key is required (+1 more)"


def test_an_unknown_key_beside_a_missing_one_may_be_meant_for_it() -> None:
    assert refused({"naem": "b", "wheels": []}).startswith(
        "bicycle.yaml: naem = 'b': unknown key; name is missing, was that meant?"
    )
    assert "unknown key; spokes is missing" in refused({"name": "b", "wheels": [{"spoke": 32}]})


def test_a_missing_key_of_another_part_is_not_meant() -> None:
    said = refused({"name": "b", "wheels": [{"spokes": 1, "nam": 2}], "spoke": 3})
    assert "unknown key (+1 more)" in said


def test_known_keys_are_listed_where_they_are_known() -> None:
    wheel = {"spokes": 3, "hubb": "wood"}
    assert refused(wheel, Wheel, ("spokes", "hub")) == (
        "bicycle.yaml: hubb = 'wood': unknown key; did you mean 'hub'? valid: spokes, hub"
    )


def test_keys_put_together_from_others_are_named_without_the_data() -> None:
    with pytest.raises(ValidationError) as caught:
        Wheel(spokes=-2)
    assert one_line(caught.value, None, "config.json") == (
        "config.json: spokes = -2: must be greater than or equal to 0"
    )
