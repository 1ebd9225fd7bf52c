"""Make what can be made of a folder: files of each figure, and one page; what is made already is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from loratwin.errors import InputError, LoratwinError, UnknownNameError
from loratwin.records import write_atomically
from loratwin.report.charts import write_chart
from loratwin.report.figures.catalogue import CATALOGUE, OWN, WORKS, Entry
from loratwin.report.figures.source import Made, Progress, Source
from loratwin.report.page import environment
from loratwin.report.tables import write_csv
from loratwin.version import __version__

PARTS = ".parts"
"""Folder of what the page is put together from."""


@dataclass(frozen=True)
class FigureState:
    """What became of a figure.

    Parameters
    ----------
    state
        made, kept (it was made before of the same data), or not made.
    why
        Why it was not made.
    part
        Its part of the page, as HTML.
    """

    entry: Entry
    state: str
    why: str = ""
    part: str = ""


def make_figures(
    data: str | Path,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    profile: str | None = None,
    processes: int = 1,
    again: bool = False,
    progress: Progress = lambda what, done, of: None,
) -> list[FigureState]:
    """PNG and SVG of each chart, CSV of each chart and table, and `index.html` with all of them.

    A figure is kept where the same version made it of the same data; an interrupted call goes on where it was.

    Parameters
    ----------
    data
        Folder with the measured tables, or with records of runs (`loratwin bench`), or both.
    output
        Folder, made where it is not there.
    only
        Names of figures; none: all.
    profile
        Of the twin that own records are compared with.
    processes
        To simulate in.
    again
        Make also what is made already.
    progress
        Called with (what, done, of).

    Returns
    -------
    list of FigureState
        What became of each that was asked for.

    Raises
    ------
    InputError
        No such folder, nothing in it that a figure can be made of, a name that is not known, or a folder that cannot be
        written.
    """
    source = Source(_folder(data), processes, progress, profile)
    chosen = _chosen(only)
    target = Path(output)
    try:
        (target / PARTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target}: {error.strerror or error}") from None
    states = {}
    for number, entry in enumerate(chosen):
        progress("figures", number, len(chosen))
        states[entry.name] = _make(entry, source, target, again)
    progress("figures", len(chosen), len(chosen))
    shown = [states.get(entry.name) or _unasked(entry, source, target) for entry in CATALOGUE]
    write_atomically(target / "index.html", _page(shown, source, target))
    return list(states.values())


def _unasked(entry: Entry, source: Source, target: Path) -> FigureState:
    """A figure that is not to be made now: shown if it was made before."""
    missing = source.missing(entry.needs)
    kept = None if entry.why_not or missing else _kept(entry, target, _digest(entry, source))
    return FigureState(
        entry, "kept" if kept else "not made", "" if kept else entry.why_not or "not asked for", kept or ""
    )


def _folder(data: str | Path) -> Path:
    if not Path(data).is_dir():
        raise InputError(f"{data}: no such folder (of measured tables, or of records of loratwin bench)")
    return Path(data)


def _chosen(only: Sequence[str]) -> list[Entry]:
    names = [entry.name for entry in CATALOGUE]
    for name in only:
        if name not in names:
            raise UnknownNameError("figure", name, names)
    return [entry for entry in CATALOGUE if not only or entry.name in only]


def _make(entry: Entry, source: Source, target: Path, again: bool) -> FigureState:
    if entry.why_not:
        return FigureState(entry, "not made", entry.why_not)
    missing = source.missing(entry.needs)
    if missing:
        return FigureState(entry, "not made", f"no {', '.join(missing)} in the folder")
    digest = _digest(entry, source)
    kept = _kept(entry, target, digest)
    if kept is not None and not again:
        return FigureState(entry, "kept", part=kept)
    try:
        made = entry.make(source)
    except LoratwinError as error:
        return FigureState(entry, "not made", str(error))
    return FigureState(entry, "made", part=_write(entry, made, target, digest))


def _digest(entry: Entry, source: Source) -> str:
    """Of all that a figure is made of and by."""
    return f"{_sources()} {source.digest(entry.needs)}"


@cache
def _sources() -> str:
    """Hash of what figures are made by: another version of this package makes them again."""
    total = hashlib.sha256()
    for room in ("report", "advise", "kernel", "simulate", "validate", "perf", "gpu_traces"):
        for path in sorted(Path(str(files("loratwin"))).joinpath(room).rglob("*")):
            if path.suffix in (".py", ".yaml", ".npz", ".j2"):
                total.update(path.read_bytes())
    return total.hexdigest()[:16]


def _kept(entry: Entry, target: Path, digest: str) -> str | None:
    """The part of the page, if it was made of the same data and its files are there."""
    try:
        part = json.loads((target / PARTS / f"{entry.name}.json").read_text(encoding="utf-8"))
        there = all((target / name).is_file() for name in part["files"])
        return str(part["html"]) if part["digest"] == digest and there else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(entry: Entry, made: Made, target: Path, digest: str) -> str:
    """All files of a figure, its part of the page last: what is interrupted before is made again."""
    paths = [path for chart in made.charts for path in write_chart(chart, target)]
    paths += write_csv([*(chart.table() for chart in made.charts), *made.tables], target)
    html = environment().get_template("figure.html.j2").render(entry=entry, made=made, files=[p.name for p in paths])
    part = {"digest": digest, "files": [path.name for path in paths], "html": html}
    write_atomically(target / PARTS / f"{entry.name}.json", json.dumps(part))
    return html


def _page(states: Sequence[FigureState], source: Source, target: Path) -> str:
    with_own = bool(source.records or source.gpu_profiles)
    works = {
        title: [s for s in states if s.entry.work == work] for work, title in WORKS.items() if work != OWN or with_own
    }
    return (
        environment()
        .get_template("figures.html.j2")
        .render(
            title="Figures of two works, as ours",
            works={title: mine for title, mine in works.items() if mine},
            command=f"loratwin figures {source.folder} -o {target}",
            version=__version__,
        )
    )
