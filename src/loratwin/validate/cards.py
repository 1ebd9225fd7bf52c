"""Put what cross-validation found on the cards of fitted profiles."""

from __future__ import annotations

from collections.abc import Iterator

from loratwin.calibrate.published.fit import COMMAND, SOURCE, TablesFit
from loratwin.perf import Card, Profile
from loratwin.validate.crossval import Validation
from loratwin.validate.residuals import held_out_errors
from loratwin.validate.scores import Score, score


def carded_profiles(fits: dict[str, TablesFit], validation: Validation) -> Iterator[Profile]:
    """The fitted profiles with their cards."""
    for model, fit in fits.items():
        pairs = [(r, p) for r, p in zip(validation.runs, validation.predictions, strict=True) if r.model == model]
        scores = score([r for r, _ in pairs], [p for _, p in pairs])
        residual = held_out_errors([r for r, _ in pairs], [p for _, p in pairs])
        uncertainty = fit.uncertainty().model_copy(update={"residual": residual})
        yield fit.profile.model_copy(update={"card": _card(fit, scores), "uncertainty": uncertainty})


def _card(fit: TablesFit, scores: list[Score]) -> Card:
    usable = sum(m.usable for m in fit.matches)
    return Card(
        fitted_on=(
            f"{usable} of {len(fit.matches)} serving runs of an hour ({len(fit.groups)} workloads), "
            f"{len(fit.micro)} micro measurements, the KV capacity and loading tables"
        ),
        command=COMMAND,
        source=SOURCE,
        held_out_error={
            f"{s.metric}, {s.regime}": _words(s) for s in scores if s.regime in ("all", "open", "saturated")
        },
        notes=("held-out errors: every workload predicted by a profile fitted without it", *fit.notes),
    )


def _words(s: Score) -> str:
    return f"MAPE {s.mape:.1f} %, median {s.median_ape:.1f} %, bias {s.bias:+.1f} % ({s.runs} runs)"
