"""Profiles as text: which there are, one with all that it says, two side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from loratwin.errors import InputError
from loratwin.formatting import UNKNOWN, WIDTH, change, number
from loratwin.perf import Profile, compare_profiles, load_profile, profile_names, user_names
from loratwin.perf.compare import ComparedFigure


def profiles_text() -> str:
    """A line for each profile: its hash, where it comes from, whose it is; also of one that cannot be read."""
    own_names = user_names()
    return "\n".join(_line(name, "yours" if name in own_names else "shipped") for name in profile_names())


def _line(name: str, whose: str) -> str:
    try:
        profile = load_profile(name)
    except InputError as error:
        return f"{UNKNOWN:16}  damaged  {whose:7}  {name}: {error}"
    return f"{profile.digest}  {profile.origin:7}  {whose:7}  {name}"


def profiles_data() -> list[dict[str, Any]]:
    """The same as plain data."""
    own_names = user_names()
    return [_entry(name, "yours" if name in own_names else "shipped") for name in profile_names()]


def _entry(name: str, whose: str) -> dict[str, Any]:
    try:
        profile = load_profile(name)
    except InputError as error:
        return {"name": name, "whose": whose, "damaged": str(error)}
    return {"name": name, "whose": whose, "hash": profile.digest, "origin": profile.origin}


def profile_text(profile: Profile) -> str:
    """A profile whole: its card, held-out errors, domain, coefficients and their standard errors."""
    data = profile.model_dump(mode="json")
    card, domain = data.pop("card"), data.pop("domain")
    uncertainty = data.pop("uncertainty")
    parts = {key: value for key, value in data.items() if isinstance(value, dict)}
    errors = card.pop("held_out_error") or {"": "not stated"}
    state = {"engine": profile.engine, "origin": profile.origin, "hash of the coefficients": profile.digest}
    sections = {
        profile.name: {**{name: value for name, value in card.items() if value is not None}, **state},
        "held-out error (runs that were not fitted)": errors,
        "domain (beyond it, results are marked)": {name: f"{low} to {high}" for name, (low, high) in domain.items()},
        **{title.replace("_", " "): values for title, values in parts.items()},
        **({"standard errors": _standard_errors(uncertainty)} if uncertainty else {}),
    }
    return "\n\n".join("\n".join([title, *_rows(values)]) for title, values in sections.items())


def _standard_errors(uncertainty: Mapping[str, Any]) -> dict[str, object]:
    machine = uncertainty["machine"]
    common = {"all times together, by a factor": f"{100 * machine:.3g} %"} if machine else {}
    return {**uncertainty["standard_errors"], **common} or {"": "not stated"}


def _rows(values: Mapping[str, object]) -> list[str]:
    """One line each, the names in a column; lists as further lines."""
    width = max(len(name) for name in values)
    return [
        f"  {name if i == 0 else '':{width}}  {line}".rstrip()
        for name, value in values.items()
        for i, line in enumerate(_lines(value, WIDTH - width - 4))
    ]


def _lines(value: object, width: int) -> list[str]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    whole = (textwrap.wrap(str(item), width, break_long_words=False, break_on_hyphens=False) for item in items)
    return [line for lines in whole for line in lines or [""]] or ["none"]


def differences_text(first: Profile, second: Profile) -> str:
    """Two profiles side by side: KV capacity, decode steps, and every coefficient with its difference.

    Parameters
    ----------
    first, second
        Differences are relative to the first.
    """
    heads = [f"{label}: {one.name} ({one.origin}, {one.digest})" for label, one in (("A", first), ("B", second))]
    return "\n".join([*heads, *_side_by_side(compare_profiles(first, second))])


def differences_data(first: Profile, second: Profile) -> dict[str, Any]:
    """The same as plain data; a figure's unit stands beside it."""
    profiles = [{"name": one.name, "origin": one.origin, "hash": one.digest} for one in (first, second)]
    figures = compare_profiles(first, second)
    return {"profiles": profiles, "figures": [{**each._asdict(), "difference": each.difference} for each in figures]}


def _side_by_side(figures: Sequence[ComparedFigure]) -> list[str]:
    """One line for each figure, below a line for each group."""
    lines, group = [], ""
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines += ["", f"{group:{width + 2}} {'A':>10} {'B':>10}"]
        differs = "" if figure.difference is None else f"{change(figure.difference):>9}"
        values = " ".join(f"{_cell(value):>10}" for value in (figure.first, figure.second))
        lines.append(f"  {figure.name:{width}} {values} {figure.unit:6} {differs}".rstrip())
    return lines


def _cell(value: float | None) -> str:
    return UNKNOWN if value is None else number(value)
