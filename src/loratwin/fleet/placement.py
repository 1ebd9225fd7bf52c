"""Which adapters live on which servers, and which part of its requests each server gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.records import EngineConfig
from loratwin.workload import BASE
from loratwin.workload.arrays import F8, I4

SUM_ERROR = 1e-6
"""By how much the fractions of an adapter may miss 1, as decimals in a file do."""


@dataclass(frozen=True)
class Server:
    """One server of a fleet.

    Parameters
    ----------
    name
        Of the server, as `gpu-0`.
    profile
        GPU kind, engine and LLM: what `loratwin.load_profile` takes.
    config
        What it is started with.
    price_per_h
        Of all its GPUs together, in any currency; None: not known.
    """

    name: str
    profile: str
    config: EngineConfig
    price_per_h: float | None = None


@dataclass(frozen=True, eq=False)
class Placement:
    """Adapters x servers, as the list of entries that are not empty.

    Parameters
    ----------
    servers
        In order; `server` counts them from 0.
    adapters
        Names; `adapter` counts them from 0, and -1 (`workload.BASE`) is traffic without adapter.
    adapter, server, fraction
        Shape (num_entries,), by adapter and then server: this server holds this adapter and gets this fraction of its
        requests. A fraction of 0 is an adapter that is held in reserve. Those of an adapter add up to 1.

    Raises
    ------
    InputError
        An entry names what is not there, or twice the same; fractions are not shares of a whole; an adapter has no
        server; names are not unique.
    """

    servers: tuple[Server, ...]
    adapters: tuple[str, ...]
    adapter: I4
    server: I4
    fraction: F8

    def __post_init__(self) -> None:
        order = np.lexsort((self.server, self.adapter))
        for name, kind in (("adapter", np.int32), ("server", np.int32), ("fraction", np.float64)):
            values = np.asarray(getattr(self, name), dtype=kind)[order]
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        _check_names(self)
        _check_entries(self)
        _check_fractions(self)

    @classmethod
    def of(cls, servers: Sequence[Server], shares: Mapping[str, Mapping[str, float]], base: str = "") -> Placement:
        """From adapter -> server -> fraction, all by name; the adapter called `base` is traffic without adapter.

        Raises
        ------
        InputError
            As the class; or a server is not known.
        """
        index = {server.name: i for i, server in enumerate(servers)}
        names = tuple(name for name in shares if name != base or not base)
        number = {name: i for i, name in enumerate(names)} | ({base: BASE} if base else {})
        rows = [(number[name], where, part) for name, parts in shares.items() for where, part in parts.items()]
        for name, parts in shares.items():
            for where in parts:
                if where not in index:
                    raise InputError(f"placement: adapter {name!r}: no server is called {where!r}")
        adapters, places, fractions = zip(*rows, strict=True) if rows else ((), (), ())
        server = np.array([index[where] for where in places], np.int32)
        return cls(tuple(servers), names, np.array(adapters, np.int32), server, np.array(fractions, np.float64))

    @property
    def num_servers(self) -> int:
        """Servers, also those that hold nothing."""
        return len(self.servers)

    @property
    def price_per_h(self) -> float | None:
        """Of all servers; None: one of them has no price."""
        prices = [server.price_per_h for server in self.servers]
        return None if None in prices else float(sum(price for price in prices if price is not None))

    def entries_of(self, server: int) -> NDArray[np.intp]:
        """Index of the entries of one server, by adapter."""
        return np.flatnonzero(self.server == server)

    def entries_for(self, adapter: int) -> slice:
        """The entries of one adapter (-1: without adapter), by server."""
        first, end = np.searchsorted(self.adapter, (adapter, adapter + 1))
        return slice(int(first), int(end))

    def num_replicas(self) -> I4:
        """Servers that hold each adapter, shape (num_adapters,)."""
        counts: I4 = np.bincount(self.adapter[self.adapter >= 0], minlength=len(self.adapters)).astype(np.int32)
        return counts

    def num_hosted(self) -> I4:
        """Adapters that each server holds, shape (num_servers,)."""
        held = self.server[self.adapter >= 0]
        counts: I4 = np.bincount(held, minlength=self.num_servers).astype(np.int32)
        return counts

    def load(self, rate: F8, base_rate: float = 0.0) -> F8:
        """What each server is asked for, shape (num_servers,).

        Parameters
        ----------
        rate
            Of each adapter, shape (num_adapters,), in any unit.
        base_rate
            Without adapter, in the same.
        """
        of_entry = np.append(rate, base_rate)[self.adapter] * self.fraction  # -1 is the last
        load: F8 = np.bincount(self.server, weights=of_entry, minlength=self.num_servers).astype(np.float64)
        return load


def _check_names(placement: Placement) -> None:
    names = [server.name for server in placement.servers]
    if not names:
        raise InputError("placement: servers: there must be one at least")
    for kind, known in (("server", names), ("adapter", list(placement.adapters))):
        if len(set(known)) < len(known):
            twice = next(name for i, name in enumerate(known) if name in known[:i])
            raise InputError(f"placement: {kind} {twice!r} is named twice")


def _check_entries(placement: Placement) -> None:
    lengths = {len(placement.adapter), len(placement.server), len(placement.fraction)}
    if len(lengths) > 1:
        raise InputError("placement: adapter, server and fraction must be of one length")
    for values, least, end, kind in (
        (placement.adapter, BASE, len(placement.adapters), "adapter"),
        (placement.server, 0, placement.num_servers, "server"),
    ):
        if len(values) and not (values.min() >= least and values.max() < end):
            raise InputError(f"placement: an entry's {kind} must be from {least} to {end - 1}")
    same = (np.diff(placement.adapter) == 0) & (np.diff(placement.server) == 0)
    if same.any():
        at = int(np.flatnonzero(same)[0])
        where = placement.servers[placement.server[at]].name
        raise InputError(f"placement: adapter {_named(placement, at)} is listed twice on server {where!r}")


def _check_fractions(placement: Placement) -> None:
    if not np.all((placement.fraction >= 0) & (placement.fraction <= 1 + SUM_ERROR)):  # NaN is neither
        at = int(np.flatnonzero(~((placement.fraction >= 0) & (placement.fraction <= 1 + SUM_ERROR)))[0])
        value = placement.fraction[at]
        raise InputError(f"placement: adapter {_named(placement, at)}: a fraction must be from 0 to 1, not {value:g}")
    sums = np.bincount(placement.adapter + 1, weights=placement.fraction, minlength=len(placement.adapters) + 1)
    listed = np.bincount(placement.adapter + 1, minlength=len(placement.adapters) + 1) > 0
    listed[1:] = True
    wrong = np.flatnonzero(listed & (np.abs(sums - 1) > SUM_ERROR))
    if len(wrong):
        name = repr(placement.adapters[wrong[0] - 1]) if wrong[0] else "base"
        raise InputError(f"placement: adapter {name}: its fractions add up to {sums[wrong[0]]:g}, and must to 1")


def _named(placement: Placement, entry: int) -> str:
    adapter = int(placement.adapter[entry])
    return "base" if adapter == BASE else repr(placement.adapters[adapter])
