"""Kinds of GPU that a fleet can be made of: profile, number that can be had, price."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from loratwin.errors import InputError
from loratwin.perf import Profile, load_profile


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


def parse_gpus(text: str) -> Gpus:
    """Read `PROFILE`, `PROFILE:8`, `PROFILE@2.5` or `PROFILE:8@2.5`: at most 8 servers, 2.5 an hour each.

    Raises
    ------
    InputError
        The profile is not known, or number or price are none.
    """
    name, at, price = text.rpartition("@") if "@" in text else (text, "", "")
    name, colon, count = name.rpartition(":") if ":" in name else (name, "", "")
    if colon and not count.strip().isdecimal():
        raise InputError(f"--gpus {text!r}: {count!r} is not a number of servers; write PROFILE:8@2.5")
    try:
        cost = float(price) if at else None
    except ValueError:
        raise InputError(f"--gpus {text!r}: {price!r} is not a price; write PROFILE:8@2.5") from None
    return Gpus(load_profile(name.strip()), int(count) if colon else None, cost)
