"""All runs without logged steps at their operating points, as rows; and why some are not among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from loratwin.calibrate.rows.clients import ClientRows, client_rows
from loratwin.calibrate.rows.operating_point import ACCEPTED, ClientMatch, match
from loratwin.errors import CapacityError, InputError
from loratwin.metrics import itl_mean_s
from loratwin.perf import Profile
from loratwin.records import Run


@dataclass(frozen=True)
class Clients:
    """Rows of clients' figures.

    Parameters
    ----------
    rows
        None: no run could be matched.
    factor
        Step times of the profile x this are those of the server: median over the runs.
    unusable
        By name: why a run has no rows.
    """

    rows: ClientRows | None
    factor: float = 1.0
    unusable: Mapping[str, str] = field(default_factory=dict)


def match_runs(runs: Mapping[str, Run], profile: Profile, in_time: Collection[str]) -> Clients:
    """Match each run with the profile.

    Parameters
    ----------
    in_time
        Names of the runs whose TTFTs count; if it has none of them, the late ones' must do.
    """
    matches, unusable = list[ClientMatch](), {}
    for name, run in runs.items():
        found = _match(name, run, profile)
        if isinstance(found, str):
            unusable[name] = found
        else:
            matches.append(found)
    if not matches:
        return Clients(None, unusable=unusable)
    believed = [m.name in in_time for m in matches]
    rows = client_rows(matches, profile, believed if any(believed) else [True] * len(matches))
    factor = float(np.exp(np.median(np.log([m.factor for m in matches]))))
    return Clients(rows, factor, unusable)


def _match(name: str, run: Run, profile: Profile) -> ClientMatch | str:
    """The match, or why there is none."""
    if not itl_mean_s(run) > 0:
        return "no finished request tells a time between tokens"
    try:
        found = match(name, run, profile)
    except (CapacityError, InputError) as error:
        return f"the twin cannot serve it: {error}"
    if not found.usable or not len(found.both):
        off = abs(np.expm1(found.residual))
        most = 100 * ACCEPTED
        return f"no factor of all step times brings the twin nearer to it than {100 * off:.0f} % ({most:.0f} % may be)"
    return found
