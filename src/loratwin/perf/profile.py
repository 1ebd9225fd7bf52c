"""A profile: everything fitted for one GPU, engine version and LLM, in one readable file with its card."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from loratwin.errors import InputError, UnknownNameError
from loratwin.perf.domain import Domain
from loratwin.perf.engines import EngineBehaviour, generation_of
from loratwin.perf.frontend import Frontend
from loratwin.perf.loading import LoadingModel
from loratwin.perf.memory import MemoryModel
from loratwin.perf.shapes import LlmShapes
from loratwin.perf.step_time import StepTimeModel


class Card(BaseModel):
    """Where the profile comes from and how far it can be trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    fitted_on: str
    command: str
    source: str
    held_out_error: dict[str, str]  # metric: figure, in words
    notes: tuple[str, ...] = ()


class Profile(BaseModel):
    """Coefficients, shapes, domain and card. `name` is GPU/engine-version/LLM."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    name: str
    engine: str  # version that it describes, as "vllm-0.8.5"
    behaviour: EngineBehaviour  # what that version does otherwise than others; of its generation unless said
    llm: LlmShapes
    memory: MemoryModel
    step_time: StepTimeModel
    loading: LoadingModel
    frontend: Frontend
    domain: Domain
    card: Card

    @property
    def notes(self) -> tuple[str, ...]:
        """What every prediction of this profile says with it."""
        return generation_of(self.engine).notes

    @field_validator("engine")
    @classmethod
    def _is_known(cls, engine: str) -> str:
        try:
            generation_of(engine)
        except InputError as error:
            raise ValueError(str(error)) from None
        return engine

    @model_validator(mode="before")
    @classmethod
    def _behave(cls, data: Any) -> Any:
        if isinstance(data, dict) and "behaviour" not in data and "engine" in data:
            engine = cls._is_known(str(data["engine"]))
            data = {**data, "behaviour": generation_of(engine).behaviour}
        return data

    @property
    def digest(self) -> str:
        """Hash of everything that predictions depend on (the card does not count)."""
        return hashlib.sha256(self.model_dump_json(exclude={"card"}).encode()).hexdigest()[:16]


def _folder() -> Any:
    return files("loratwin.perf").joinpath("profiles")


def profile_names() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(
        item.name.removesuffix(".yaml").replace("__", "/")
        for item in _folder().iterdir()
        if item.name.endswith(".yaml")
    )


def load_profile(name: str) -> Profile:
    """A shipped profile by name, or one from a file (a path that ends in .yaml).

    Raises
    ------
    InputError
        Unknown name, or a file that cannot be read, is damaged or newer than understood.
    """
    if name.endswith((".yaml", ".yml")):
        return _parse(_read(Path(name)), name)
    return _shipped(name)


@lru_cache(maxsize=16)
def _shipped(name: str) -> Profile:
    if name not in profile_names():
        raise UnknownNameError("profile", name, profile_names())
    return _parse(_folder().joinpath(name.replace("/", "__") + ".yaml").read_text(), name)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"profile {path}: cannot be read ({error})") from None


def _parse(text: str, where: str) -> Profile:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"profile {where}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict):
        raise InputError(f"profile {where}: not a profile (a mapping with the key 'format' is expected)")
    if data.get("format") != 1:
        raise InputError(f"profile {where}: format {data.get('format')!r}; this version understands format 1")
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"profile {where}: {key}: {first['msg']}") from None


def dump_profile(profile: Profile) -> str:
    """The profile as YAML text."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
