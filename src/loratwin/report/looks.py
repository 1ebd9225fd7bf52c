"""How each run looks in every figure of a page, so that nobody has to read a legend twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loratwin.records import Run

MEASURED = ("#007a5a", "#8a5a00", "#5b3b8c", "#24292f")  # green first, as the badge
SIMULATED = ("#0072b2", "#c25400", "#a8326e", "#57606a")  # blue first


@dataclass(frozen=True)
class Look:
    """A run and how its lines look: measured ones are solid, simulated ones dashed, each with a colour of its own."""

    name: str
    run: Run
    colour: str

    @property
    def dashes(self) -> str:
        """As matplotlib and CSS know it."""
        return "solid" if self.run.kind == "measured" else "dashed"


def looks(runs: Mapping[str, Run]) -> list[Look]:
    """Colours by kind, in the order given; they repeat after four of a kind."""
    used = {"measured": 0, "simulated": 0}
    shown = []
    for name, run in runs.items():
        palette = MEASURED if run.kind == "measured" else SIMULATED
        shown.append(Look(name, run, palette[used[run.kind] % len(palette)]))
        used[run.kind] += 1
    return shown
