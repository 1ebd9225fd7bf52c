"""Specifications that refuse what they do not know, in one line that says where, what, and what would be valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from loratwin.refusals import REFUSED, did_you_mean, one_line

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
            if _holds_bool(value) and cls.model_fields[key].annotation not in (bool, bool | None):
                raise refusal(key, "yes and no (on and off) are not valid here; quote it if it is a name")
        return data


def _holds_bool(value: Any) -> bool:
    """Python would take True for 1, and YAML takes the word on for True."""
    return any(map(_holds_bool, value)) if isinstance(value, (list, tuple)) else isinstance(value, bool)


def refusal(key: str, message: str) -> PydanticCustomError:
    """An error about one key of a model, to be raised in validators of the whole model."""
    return PydanticCustomError(REFUSED, "{said}", {"key": key, "said": message})  # a template: messages may have braces


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


def _there_beside_the_file(value: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = value if folder is None else Path(folder) / value
    return path if path.is_dir() else _beside_the_file(value, info)


ExistingPath = Annotated[Path, AfterValidator(_there_beside_the_file)]
"""A file or folder, given as `ExistingFile`."""

ExistingFile = Annotated[Path, AfterValidator(_beside_the_file)]
"""A file, given relative to the YAML file that names it (in Python: to the current folder)."""
