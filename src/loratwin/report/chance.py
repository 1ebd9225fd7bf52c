"""How reliable stated chances are, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loratwin.records.plain import as_plain
from loratwin.report.validation import markdown_table
from loratwin.validate.chance import Judged, Statement, Tenth, around, brier, judged, reliability

STARVATION = "does not starve"
LABELS = {
    "": STARVATION,
    "ttft_mean_ms": "TTFT mean",
    "ttft_median_ms": "TTFT median",
    "ttft_p99_ms": "TTFT p99",
    "tpot_mean_ms": "TPOT mean",
    "tpot_p99_ms": "TPOT p99",
    "itl_mean_ms": "ITL mean",
    "itl_p99_ms": "ITL p99",
}


def chance_markdown(
    stated: Sequence[Statement], verdicts: Sequence[Statement] = (), uncorrected: Sequence[Statement] = ()
) -> str:
    """The reliability by tenths, the Brier score of each figure, then how often verdicts were right.

    Parameters
    ----------
    verdicts, uncorrected
        As plans give them, and by the twin's own percentiles.
    """
    tenths: list[Sequence[str]] = [
        _row(f"{100 * each.low:.0f} to {100 * each.high:.0f} %", each) for each in reliability(stated)
    ]
    if (nine := around(stated)) is not None:
        tenths.append(_row("85 to 95 %", nine))
    figures: list[Sequence[str]] = [
        _figure(label, [each for each in stated if each.figure == name]) for name, label in LABELS.items()
    ]
    parts = [
        "# Whether what is said to hold holds",
        f"Held-out runs and limits, {len(stated):,} statements: Brier score {brier(stated):.4f} "
        "(0: clairvoyant, 0.25: a coin).",
        markdown_table((("chance", "statements", "stated", "kept"), tenths)),
        "By the figure that is limited:",
        markdown_table((("limit on", "statements", "Brier score", "said 85 to 95 %", "kept"), figures)),
    ]
    if verdicts:
        both = zip(judged(verdicts), judged(uncorrected), strict=True)
        head = ("limit on", "verdicts", "right", "false kept", "false missed", "by the twin's own figure: right")
        parts += [
            "Verdicts, kept or missed, on the same limits:",
            markdown_table(((*head, "false kept", "false missed"), [_verdict(*each) for each in both])),
        ]
    return "\n\n".join(parts) + "\n"


def chance_data(
    stated: Sequence[Statement], verdicts: Sequence[Statement] = (), uncorrected: Sequence[Statement] = ()
) -> dict[str, Any]:
    """The same as plain data: chances are parts of 1."""
    figures = []
    for name, label in LABELS.items():
        of_figure = [each for each in stated if each.figure == name]
        score = brier(of_figure) if of_figure else None
        figures.append({"limit_on": name or label, "statements": len(of_figure), "brier_score": score})
    nine = around(stated)
    plain: dict[str, Any] = as_plain(
        {
            "statements": len(stated),
            "brier_score": brier(stated),
            "tenths": reliability(stated),
            "from_85_to_95_percent": nine,
            "figures": figures,
            "verdicts": judged(verdicts),
            "verdicts_by_the_twins_own_figures": judged(uncorrected),
        }
    )
    return plain


def _row(name: str, tenth: Tenth) -> tuple[str, ...]:
    return name, f"{tenth.number:,}", f"{100 * tenth.stated:.1f} %", f"{100 * tenth.kept:.1f} %"


def _verdict(one: Judged, other: Judged) -> tuple[str, ...]:
    shares = (
        each
        for judged in (one, other)
        for each in (judged.right_share, judged.false_kept_share, judged.false_missed_share)
    )
    return LABELS[one.figure], f"{one.number:,}", *(f"{100 * share:.1f} %" for share in shares)


def _figure(label: str, stated: Sequence[Statement]) -> tuple[str, ...]:
    nine = around(stated)
    said = ("0", "") if nine is None else (f"{nine.number:,}", f"{100 * nine.kept:.1f} %")
    return label, f"{len(stated):,}", f"{brier(stated):.4f}" if stated else "", *said
