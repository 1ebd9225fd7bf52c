"""The report on others' measurements: errors, bias and intervals by GPU, engine, kind of LLM; and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from loratwin.records import write_atomically
from loratwin.report.tables import titled
from loratwin.report.validation import Table, markdown_table
from loratwin.validate.public import PublicTable
from loratwin.validate.public_scores import BY, PublicScore, public_scores, start_score
from loratwin.validate.transfer import transfer_errors
from loratwin.version import __version__

INTRODUCTION = (
    "Measurements that others published of their servers, each predicted from its configuration (and arrivals and "
    "lengths, where requests are known) with a profile assumed for its GPU, LLM and engine. Intervals are stated "
    "as 90 %. A row that is not predicted says why."
)


def public_sections(tables: Sequence[PublicTable]) -> list[tuple[str, Table]]:
    """All tables with their titles."""
    sections = [("All rows" if by == "all" else f"By {by}", _score_table(public_scores(tables, by))) for by in BY]
    for table in tables:
        if table.name == "kv_capacity.csv":
            sections.append(("Starts", _start_table(table)))
        if table.name == "serving.csv":
            sections.append(("Saturated servers, each judged by all others", _transfer_table(table)))
    return [*sections, ("Not predicted", _refused_table(tables))]


def public_markdown(tables: Sequence[PublicTable]) -> str:
    """The report as Markdown."""
    parts = ["# Others' measurements", INTRODUCTION]
    parts += [f"## {title}\n\n{markdown_table(table)}" for title, table in public_sections(tables)]
    return "\n\n".join(parts) + "\n"


def public_html(tables: Sequence[PublicTable]) -> str:
    """The report as one HTML file that needs nothing else."""
    from loratwin.report.page import environment

    return (
        environment()
        .get_template("validation.html.j2")
        .render(
            title="Others' measurements",
            introduction=INTRODUCTION,
            capacity="",
            figures=[],
            tables=titled(public_sections(tables)),
            version=__version__,
            source="the sources are named in the tables",
        )
    )


def _score_table(scores: Sequence[PublicScore]) -> Table:
    header = (
        "figure", "group", "rows", "predicted", "mean error", "median", "worst", "bias", "inside 90 %", "half-width",
    )  # fmt: skip
    rows = [
        (
            f"{s.table.removesuffix('.csv')} {s.figure}", s.group, str(s.rows), str(s.predicted), _percent(s.mean),
            _percent(s.median), _percent(s.worst), _percent(s.bias, "+.1f"),
            f"{s.inside} of {s.intervals}" if s.intervals else "", _percent(s.half_width),
        )
        for s in scores
    ]  # fmt: skip
    return header, list(rows)


def _transfer_table(table: PublicTable) -> Table:
    header = ("figure", "GPUs and engines", "error, as a logarithm", "half-width", "inside when left out")
    rows = [
        (e.figure, str(e.servers), f"{e.rms:.2f}", f"{e.half_width:.2f}", f"{e.left_out_inside} of {e.servers}")
        for e in transfer_errors(table)
    ]
    return header, list(rows)


def _start_table(table: PublicTable) -> Table:
    score = start_score(table)
    header = ("servers", "number", "said otherwise")
    rows = [
        ("that start", str(score.alive), str(score.alive_refused)),
        ("that died of memory", str(score.died), str(score.died_said_to_start)),
        ("without a verdict", str(score.no_verdict), ""),
    ]
    return header, list(rows)


def _refused_table(tables: Sequence[PublicTable]) -> Table:
    rows = [
        (table.name, " ".join(row.get(key, "") for key in table.keys), reason)
        for table in tables
        for row, reason in zip(table.rows, table.reasons, strict=True)
        if reason
    ]
    return ("file", "row", "reason"), list(rows)


def _percent(value: float, form: str = ".1f") -> str:
    return "" if math.isnan(value) else f"{100 * value:{form}} %"


def write_public(tables: Sequence[PublicTable], folder: Path) -> list[Path]:
    """Write the predictions (CSV), `report.md` and `report.html` into a folder that is there; their paths.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    return [
        *(write_atomically(folder / table.name, table.as_csv()) for table in tables),
        write_atomically(folder / "report.md", public_markdown(tables)),
        write_atomically(folder / "report.html", public_html(tables)),
    ]
