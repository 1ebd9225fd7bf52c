"""Specifications that refuse what they do not know, in one line that says where, what, and what would be valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from loratwin.errors import InputError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class _Refusing(ModelMetaclass):
    """``Spec(...)`` written in Python raises InputError as a file does.

    Only a call passes here: models nested in a file are still validated by pydantic, which keeps the whole key path.
    """

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise InputError(one_line(error, values, cls.__name__)) from None


class Strict(BaseModel, metaclass=_Refusing):
    """Base of every part of a specification: frozen, unknown keys and NaN refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: Any) -> Any:
        for key, value in data.items() if isinstance(data, Mapping) else ():
            if key not in cls.model_fields:
                raise refusal(str(key), f"unknown key{did_you_mean(key, cls.model_fields)}")
            if _holds_bool(value) and cls.model_fields[key].annotation is not bool:
                raise refusal(key, "yes and no (on and off) are not valid here; quote it if it is a name")
        return data


def _holds_bool(value: Any) -> bool:
    """Python would take True for 1, and YAML takes the word on for True."""
    return any(map(_holds_bool, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


def refusal(key: str, message: str) -> PydanticCustomError:
    """An error about one key of a model, to be raised in validators of the whole model."""
    escaped = message.replace("{", "{{").replace("}", "}}")  # pydantic formats the message with the context
    return PydanticCustomError("refused", escaped, {"key": key})


def did_you_mean(name: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    """``; did you mean 'rate'? Valid: ...``."""
    options = list(known)
    close = get_close_matches(str(name), options, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} valid: {', '.join(options)}"


def one_line(error: ValidationError, data: Any, source: str) -> str:
    """First problem of a validation error: source, key path, value, what would be valid, how many more."""
    first = error.errors(include_url=False)[0]
    path, value = _locate(first["loc"], first, data)
    if first["type"] == "union_tag_invalid" and isinstance(value, Mapping):
        path, value = _join(path, "kind"), value.get("kind")
    if first["type"] == "refused":
        key = first["ctx"]["key"]
        path = _join(path, key) if key else path
        value = value.get(key) if isinstance(value, Mapping) else None
    shown = f" = {_short(value)}" if isinstance(value, (int, float, str, Path)) else ""
    more = f" (+{error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{source}: {path}{shown}: {_plain(first)}{more}" if path else f"{source}: {_plain(first)}{more}"


def _locate(loc: tuple[int | str, ...], first: Any, data: Any) -> tuple[str, Any]:
    """Key path as in the file, and the value there. pydantic also names the branches of unions: those are left out."""
    path, here = "", data
    for position, part in enumerate(loc):
        if isinstance(here, Mapping) and part in here:
            path, here = _join(path, part), here[part]
        elif isinstance(here, (list, tuple)) and isinstance(part, int):
            path, here = f"{path}[{part}]", here[part] if part < len(here) else None
        elif position == len(loc) - 1 and first["type"] == "missing":
            path, here = _join(path, part), None
    return path, None if first["type"] == "missing" else here


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _short(value: object) -> str:
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 80 else text[:77] + "..."


_OUR_WORDS = {
    "missing": "this key is required",
    "union_tag_not_found": "must be a mapping with the key 'kind'",
    "model_attributes_type": "must be a mapping with the key 'kind'",
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "string_pattern_mismatch": "must start with a letter or digit, then letters, digits, '.', '_' or '-'",
    "too_short": "must have at least one entry",
}


def _plain(first: Any) -> str:
    """pydantic's message in our words."""
    if first["type"] in _OUR_WORDS:
        return _OUR_WORDS[first["type"]]
    if first["type"] == "union_tag_invalid":
        known = [tag.strip("' ") for tag in str(first["ctx"]["expected_tags"]).split(",")]
        return f"unknown kind {first['ctx']['tag']!r}{did_you_mean(first['ctx']['tag'], known)}"
    message = str(first["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("\n", " ")


def either(form: Callable[[Any], str | None], valid: str) -> Discriminator:
    """Choose between forms of a value by its type; `valid` is said where none fits."""
    return Discriminator(form, custom_error_type="form", custom_error_message=f"must be {valid}")


class Shorthand:
    """Lets ``arrivals: poisson`` stand for ``arrivals: {kind: poisson}``, in files and in the JSON Schema."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.names)}, handler(schema)]}

    @staticmethod
    def _expand(value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


def _beside_the_file(value: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = value if folder is None else Path(folder) / value
    if not path.is_file():
        raise ValueError(f"no such file ({path})" if str(path) != str(value) else "no such file")
    return path


ExistingFile = Annotated[Path, AfterValidator(_beside_the_file)]
"""A file, given relative to the YAML file that names it (in Python: to the current folder)."""
