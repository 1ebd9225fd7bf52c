"""Kinds of GPU that a fleet can be made of: profile, number that can be had, price."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from loratwin.engines.versions import UNTOLD
from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import Profile, find_gpu, load_profile, profile_for


@dataclass(frozen=True)
class Gpus:
    """A kind of server.

    Parameters
    ----------
    profile
        GPU, engine and LLM.
    count
        Servers that can be had; None: any number.
    price_per_h
        Of one server (all of its GPUs) an hour, in any currency; None: not known.
    """

    profile: Profile
    count: int | None = None
    price_per_h: float | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise InputError(f"GPUs {self.profile.name}: {self.count} of them; there must be one at least")
        if self.price_per_h is not None and not (isfinite(self.price_per_h) and self.price_per_h >= 0):
            raise InputError(f"GPUs {self.profile.name}: a price must be 0 or more, not {self.price_per_h:g}")

    @property
    def name(self) -> str:
        """The profile's."""
        return self.profile.name


def parse_gpus(text: str, llm: str | None = None, engine: str | None = None) -> Gpus:
    """Read `PROFILE`, `PROFILE:8`, `PROFILE@2.5` or `PROFILE:8@2.5`: at most 8 servers, 2.5 an hour each.

    Parameters
    ----------
    llm
        With it a GPU's name does in place of a profile's: the one that was fitted to this LLM and engine on that GPU,
        else one that is assumed.
    engine
        Version of the engine, with `llm`; None: the newest that is known.

    Raises
    ------
    InputError
        The profile, GPU or LLM is not known, or number or price are none.
    """
    name, at, price = text.rpartition("@") if "@" in text else (text, "", "")
    name, colon, count = name.rpartition(":") if ":" in name else (name, "", "")
    if colon and not count.strip().isdecimal():
        raise InputError(f"--gpus {text!r}: {count!r} is not a number of servers; write PROFILE:8@2.5")
    try:
        cost = float(price) if at else None
    except ValueError:
        raise InputError(f"--gpus {text!r}: {price!r} is not a price; write PROFILE:8@2.5") from None
    return Gpus(_profile(name.strip(), llm, engine or UNTOLD), int(count) if colon else None, cost)


def _profile(name: str, llm: str | None, engine: str) -> Profile:
    if "/" in name or Path(name).suffix == ".yaml":
        return load_profile(name)
    gpu = find_gpu(name)
    if llm is None:
        raise InputError(f"--gpus {name}: a GPU needs an LLM (--llm qwen-3-8b), or name a profile")
    return profile_for(gpu, find_llm(llm, engine), engine)
