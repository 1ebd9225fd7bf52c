"""Figures as SVG text that can stand in a page: no scripts, nothing from outside, the same bytes every time.

Colours go by the page's names of them, so that they are others in the dark; places say their values when pointed at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from math import hypot
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, EDGE, PAPER = "#24292f", "#57606a", "#e4e6ea", "#8a8f98", "#ffffff"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#c25400", "#007a5a", "#b3261e"  # Okabe and Ito's, darkened to be read on white
PURPLE, BROWN, PINK = "#5b3b8c", "#8a5a00", "#a8326e"

COLOURS = {
    INK: "ink", MUTED: "muted", GRID: "grid", EDGE: "edge", PAPER: "paper", BLUE: "blue", ORANGE: "orange",
    GREEN: "green", RED: "red", PURPLE: "purple", BROWN: "brown", PINK: "pink",
}  # fmt: skip
"""Names that style.css.j2 gives them, for light and for dark."""

NEAR_POINTS, MOST_AT_A_POINT = 4.0, 4
"""Points nearer than this (1/72 inch) are pointed at together; so many of them are named."""

MOST_STRIPS = 60
"""Places along a line that say its values: more than a finger or a mouse can tell apart."""

STYLE: Any = {  # Any: the keys that matplotlib knows differ between versions
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.left": False,
    "ytick.minor.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": MUTED,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
}


class Spot(NamedTuple):
    """A place of a figure that says something when pointed at: around a point, or a strip of the height of the axes."""

    axes: Axes
    text: str
    x: float  # of the point, or the strip's left end
    y: float | None = None  # None: a strip
    right: float = 0.0  # end of a strip


def inline_svg(figure: Figure, name: str, description: str, spots: Sequence[Spot] = ()) -> str:
    """The figure as an `<svg>` element that fills the width it is given.

    Parameters
    ----------
    name
        Unique in the page: begins all ids of the element.
    description
        What the figure shows, for those who do not see it.
    spots
        Places that say something when pointed at.
    """
    buffer = StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = text[text.index(">", box.end()) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)  # when and with what it was made
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{name}-", body)
    body = re.sub("#[0-9a-f]{6}", lambda found: css_colour(found[0]), body)
    body = body[: body.rindex("</svg>")] + _spots(figure, spots) + "</svg>"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} viewBox="{box[1]}" role="img" aria-label="{escape(description)}">{body}'


def css_colour(colour: str) -> str:
    """A colour by the page's name of it, where it has one."""
    return f"var(--{COLOURS[colour]})" if colour in COLOURS else colour


def _spots(figure: Figure, spots: Sequence[Spot]) -> str:
    """Invisible shapes with their text; the figure has been drawn, so its axes lie where they are shown.

    Points that lie upon each other are one, which says the texts of all.
    """
    to_points, height = 72 / figure.dpi, 72 * figure.get_figheight()
    strips, points = [], list[tuple[float, float, list[str]]]()
    for spot in spots:
        if spot.y is None:
            strips.append(_strip(spot, to_points, height))
            continue
        x, y = spot.axes.transData.transform((spot.x, spot.y)) * to_points
        near = next((texts for at_x, at_y, texts in points if hypot(x - at_x, height - y - at_y) < NEAR_POINTS), None)
        if near is None:
            points.append((x, height - y, [spot.text]))
        else:
            near.append(spot.text)
    shapes = strips + [_point(x, y, texts) for x, y, texts in points]
    return f'<g class="spots">{"".join(shapes)}</g>' if shapes else ""


def _point(x: float, y: float, texts: Sequence[str]) -> str:
    more = [f"and {len(texts) - MOST_AT_A_POINT} more"] if len(texts) > MOST_AT_A_POINT else []
    title = escape("\n\n".join([*texts[:MOST_AT_A_POINT], *more]))
    return f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="7"><title>{title}</title></circle>'


def _strip(spot: Spot, to_points: float, height: float) -> str:
    across = spot.axes.get_xaxis_transform()  # x of the data, y of the axes
    (left, bottom), (right, top) = across.transform([(spot.x, 0), (spot.right, 1)]) * to_points
    shape = f'x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}" height="{top - bottom:.1f}"'
    return f'<rect class="spot" {shape}><title>{escape(spot.text)}</title></rect>'
