"""A validator for the part of JSON Schema that pydantic writes: enough to see what an editor would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TYPES: dict[str, Any] = {
    "string": str,
    "array": list,
    "object": dict,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "maxItems": lambda value, bound: len(value) <= bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "minProperties": lambda value, bound: len(value) >= bound,
}
KNOWN = {
    *BOUNDS, "type", "properties", "required", "additionalProperties", "items", "prefixItems", "anyOf", "oneOf", "enum",
    "const", "$ref", "$defs", "$schema", "title", "description", "default", "discriminator", "format", "maxLength",
    "pattern",
}  # fmt: skip


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether the value is what the schema describes."""
    assert not set(schema) - KNOWN, f"words that this validator, and perhaps an editor, does not know: {schema}"
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema and not any(valid(value, option, root) for option in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(valid(value, option, root) for option in schema["oneOf"]) != 1:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not _is_a(value, schema["type"]):
        return False
    if not all(holds(value, schema[word]) for word, holds in BOUNDS.items() if word in schema):
        return False
    if isinstance(value, dict):
        return _valid_mapping(value, schema, root)
    return not isinstance(value, list) or _valid_list(value, schema, root)


def _is_a(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name in ("boolean",) or not isinstance(value, bool))


def _valid_mapping(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not set(schema.get("required", ())) <= set(value):
        return False
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        expected = properties.get(key, others)
        if expected is False or (isinstance(expected, dict) and not valid(item, expected, root)):
            return False
    return True


def _valid_list(value: list[Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    first = schema.get("prefixItems", [])
    pairs = [*zip(value, first, strict=False), *((item, schema.get("items", {})) for item in value[len(first) :])]
    return all(valid(item, expected, root) for item, expected in pairs)
