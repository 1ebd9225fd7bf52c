"""A profile: everything fitted for one GPU, engine version and LLM, in one readable file with its card."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from loratwin.engines.versions import EngineBehaviour, Limits, default_limits, generation_of
from loratwin.errors import InputError, UnknownNameError
from loratwin.llms import LlmShapes
from loratwin.perf.domain import Domain
from loratwin.perf.frontend import Frontend
from loratwin.perf.loading import LoadingModel
from loratwin.perf.memory import AssumedMemory, MemoryModel
from loratwin.perf.step_time import StepTimeModel
from loratwin.perf.uncertainty import Uncertainty
from loratwin.refusals import one_line

_hashed: tuple[Profile | None, str] = None, ""
"""The last profile whose digest was asked for: every run of a search asks for the same one's. Profiles never change."""

PARTS = ("memory", "step_time", "loading", "frontend")
"""Where coefficients are."""


class Card(BaseModel):
    """Where the profile comes from and how far it can be trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    fitted_on: str
    command: str
    source: str
    held_out_error: dict[str, str]  # metric: figure, in words
    usual_reference: float | None = None
    """Time between tokens of the reference load on the machine at its usual speed, by what the step time says of it."""
    notes: tuple[str, ...] = ()


class ProfiledServer(BaseModel):
    """What the servers that were measured ran with, beside what a plan decides; None: not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    options: tuple[str, ...] | None = None  # each with its value, as "--dtype bfloat16"
    environment: tuple[str, ...] | None = None  # NAME=value of variables that say how the engine computes
    varied: tuple[str, ...] = ()  # options and variables that some of the servers had, and others not


def _known_coefficients(profile: Profile) -> None:
    """Refuse an uncertainty of something that is no coefficient."""
    for name in profile.uncertainty.standard_errors if profile.uncertainty else ():
        part, _, key = name.partition(".")
        if part not in PARTS or not isinstance(getattr(getattr(profile, part), key, None), float):
            raise ValueError(f"uncertainty.standard_errors.{name}: not a coefficient, as step_time.weights_s is")


class Profile(BaseModel):
    """Coefficients, shapes, domain and card. `name` is GPU/engine-version/LLM."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    name: str
    engine: str  # version that it describes, as "vllm-0.8.5"
    behaviour: EngineBehaviour  # what that version does otherwise than others; of its generation unless said
    llm: LlmShapes
    memory: AssumedMemory | MemoryModel
    step_time: StepTimeModel
    loading: LoadingModel
    frontend: Frontend
    domain: Domain
    card: Card
    origin: Literal["fitted", "assumed"] = "fitted"  # assumed: no measurement of this GPU, engine and LLM
    uncertainty: Uncertainty | None = None
    server: ProfiledServer | None = None  # None: not known

    @property
    def notes(self) -> tuple[str, ...]:
        """What every prediction of this profile says with it."""
        notes = generation_of(self.engine).notes
        if self.origin == "assumed":
            notes = (f"{self.name} is assumed, not measured: {self.card.source}", *notes)
        return notes

    @property
    def gpu_memory_utilization(self) -> float:
        """The part of the GPU's memory that this version of vLLM fills unless it is told."""
        return generation_of(self.engine).generation.gpu_memory_utilization

    @property
    def limits(self) -> Limits:
        """Tokens of a step and sequences that this version of vLLM takes on this GPU unless it is told."""
        on_cpu = self.memory.kv_gib is not None  # a GPU's cache is computed, not given
        return default_limits(self.engine, self.memory.gpu_gib, self.name, "cpu" if on_cpu else "cuda")

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

    @model_validator(mode="after")
    def _is_whole(self) -> Profile:
        _known_coefficients(self)
        return self

    @property
    def digest(self) -> str:
        """Hash of everything that a prediction depends on (not the card, how uncertain it is, nor the server's flags).

        Fields that keep their default do not count, so that a field added later changes no hash.
        """
        global _hashed
        profile, digest = _hashed  # one reference: another thread's is whole, too
        if profile is not self:
            digest = self._hash({"card", "uncertainty", "server"})
            _hashed = self, digest
        return digest

    @property
    def checksum(self) -> str:
        """Hash of all but the card, kept in the file: the card may be edited, the figures not by accident."""
        return self._hash({"card"})

    def _hash(self, left_out: set[str]) -> str:
        data = self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sample(self, rng: np.random.Generator) -> Profile:
        """A profile that is as plausible as this one: every coefficient drawn within its uncertainty, none negative.

        Without an uncertainty it is the profile itself.
        """
        if self.uncertainty is None:
            return self
        parts = {name: getattr(self, name).model_dump() for name in PARTS}
        drawn = self.uncertainty.sample(parts, rng)
        one = self.model_copy(update={name: type(getattr(self, name))(**drawn[name]) for name in PARTS})
        spread = self.uncertainty.machine
        return one.slower(float(np.exp(spread * rng.standard_normal()))) if spread else one

    def slower(self, factor: float) -> Profile:
        """The profile of the same server on a machine that takes so many times as long for all but loads."""
        frontend = self.frontend.model_copy(update={"overhead_s": self.frontend.overhead_s * factor})
        return self.model_copy(update={"step_time": self.step_time.scaled(factor), "frontend": frontend})


def _folder() -> Any:
    return files("loratwin.perf").joinpath("profiles")


def user_folder() -> Path:
    """Where the user's own profiles are: `LORATWIN_PROFILES`, or `loratwin/profiles` in the XDG data home."""
    if os.environ.get("LORATWIN_PROFILES"):
        return Path(os.environ["LORATWIN_PROFILES"])
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "loratwin" / "profiles"


def shipped_names() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(_name_of(item.name) for item in _folder().iterdir() if item.name.endswith(".yaml"))


def user_names() -> list[str]:
    """Names of the profiles in the user's folder."""
    folder = user_folder()
    return sorted(_name_of(file.name) for file in folder.glob("*.yaml")) if folder.is_dir() else []


def profile_names() -> list[str]:
    """Names of all profiles, shipped and the user's."""
    return sorted({*shipped_names(), *user_names()})


def _name_of(file_name: str) -> str:
    return file_name.removesuffix(".yaml").replace("__", "/")


def file_name(name: str) -> str:
    """The file in which a profile of this name is kept."""
    return name.replace("/", "__") + ".yaml"


def load_profile(name: str) -> Profile:
    """A profile by name, the user's own or a shipped one, or from a file (a path that ends in .yaml).

    Parameters
    ----------
    name
        As "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct" (`loratwin profiles list`), or the path of a .yaml file.

    Returns
    -------
    Profile
        Coefficients with their card: what they were fitted on, and how far they can be trusted.

    Raises
    ------
    InputError
        Unknown name, or a file that cannot be read, is damaged or newer than understood.
    """
    if name.endswith((".yaml", ".yml")):
        return parse_profile(_read(Path(name)), name)
    if name in user_names():
        path = user_folder() / file_name(name)
        return parse_profile(_read(path), str(path))
    return _shipped(name)


@lru_cache(maxsize=16)
def _shipped(name: str) -> Profile:
    if name not in shipped_names():
        raise UnknownNameError("profile", name, profile_names())
    return parse_profile(_folder().joinpath(file_name(name)).read_text(), name)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"profile {path}: cannot be read ({error})") from None


def parse_profile(text: str, where: str) -> Profile:
    """A profile from YAML text; `where` it is from, for messages.

    Raises
    ------
    InputError
        The text is no profile, is damaged or newer than understood, or its coefficients are not those of its hash.
    """
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"profile {where}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict):
        raise InputError(f"profile {where}: not a profile (a mapping with the key 'format' is expected)")
    if data.get("format") != 1:
        raise InputError(f"profile {where}: format {data.get('format')!r}; this version understands format 1")
    stated = data.pop("hash", None)
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        raise InputError(one_line(error, data, f"profile {where}")) from None
    if stated is not None and stated != profile.checksum:
        raise InputError(
            f"profile {where}: hash is {stated}, but that of its figures {profile.checksum}: it was changed by hand "
            "or damaged (remove the line 'hash' to accept it as it is)"
        )
    return profile


def dump_profile(profile: Profile) -> str:
    """The profile as YAML text, with its hash: who changes a coefficient by accident is told."""
    data = profile.model_dump(mode="json")
    for name in ("uncertainty", "server"):
        if data[name] is None:
            del data[name]
    for name in ("machine", "beyond") if profile.uncertainty is not None else ():
        if not data["uncertainty"][name]:  # later than the format: files without them stay as they are
            del data["uncertainty"][name]
    if profile.card.usual_reference is None:
        del data["card"]["usual_reference"]
    data = {"format": data.pop("format"), "hash": profile.checksum, **data}
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Lists of numbers in one line: a correlation matrix is then as many lines as it has rows."""


def _represent_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    numbers = all(isinstance(value, (int, float)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=numbers)


_Dumper.add_representer(list, _represent_list)
