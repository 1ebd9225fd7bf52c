"""How each run looks in every figure of a page, so that nobody has to read a legend twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loratwin.records import Run
from loratwin.report.svg import BLUE, BROWN, GREEN, INK, MUTED, ORANGE, PINK, PURPLE, css_colour

MEASURED = (GREEN, BROWN, PURPLE, INK)  # green first, as the badge
SIMULATED = (BLUE, ORANGE, PINK, MUTED)  # blue first

DASHES = ("solid", "dashed", "dotted")


@dataclass(frozen=True)
class Look:
    """A run and how its lines look; `dashes` as matplotlib and CSS know it."""

    name: str
    run: Run
    colour: str
    dashes: str

    @property
    def css(self) -> str:
        """Its colour, in the page's light or dark."""
        return css_colour(self.colour)


def looks(runs: Mapping[str, Run]) -> list[Look]:
    """Colours by kind, in the order given; they repeat after four of a kind.

    Measured lines are solid, simulated ones beside them dashed; where all are of one kind, each has dashes of its own.
    """
    used = {"measured": 0, "simulated": 0}
    mixed = len({run.kind for run in runs.values()}) > 1
    shown = []
    for name, run in runs.items():
        palette, before = MEASURED if run.kind == "measured" else SIMULATED, used[run.kind]
        dashes = ("solid" if run.kind == "measured" else "dashed") if mixed else DASHES[before % len(DASHES)]
        shown.append(Look(name, run, palette[before % len(palette)], dashes))
        used[run.kind] += 1
    return shown


def named(look: Look) -> str:
    """Its name, and its kind where the name does not say it."""
    return look.name if look.name == look.run.kind else f"{look.name} ({look.run.kind})"
