"""Put what cross-validation found on the cards of fitted profiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from loratwin.calibrate.published.fit import COMMAND, SOURCE, TablesFit
from loratwin.perf import Card, Profile
from loratwin.validate.chance import HeldOut, predict_draws, signed_errors
from loratwin.validate.crossval import Progress, Validation, cross_validate, fit_all
from loratwin.validate.residuals import held_out_errors
from loratwin.validate.scores import ErrorScore, score


def fit_with_errors(
    folder: Path, processes: int = 2, progress: Progress = lambda what, done, of: None
) -> list[Profile]:
    """The profiles of all LLMs of measured tables, with held-out errors on their cards (takes some minutes).

    Parameters
    ----------
    folder
        With the tables (serving_*.csv, ...).
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    DataError
        A table is missing or damaged.
    """
    fits = fit_all(folder, processes, progress)
    validation = cross_validate(folder, fits, processes, progress)
    return list(carded_profiles(fits, validation, predict_draws(folder, fits, processes, progress, draws=0)))


def carded_profiles(
    fits: dict[str, TablesFit], validation: Validation, held_out: Sequence[HeldOut] = ()
) -> Iterator[Profile]:
    """The fitted profiles with their cards, and the errors that chances are made of."""
    for model, fit in fits.items():
        pairs = [(r, p) for r, p in zip(validation.runs, validation.predictions, strict=True) if r.model == model]
        scores = score([r for r, _ in pairs], [p for _, p in pairs])
        residual = held_out_errors([r for r, _ in pairs], [p for _, p in pairs])
        errors = signed_errors([prediction for prediction in held_out if prediction.run.model == model])
        uncertainty = fit.uncertainty().model_copy(update={"residual": residual, "errors": errors})
        yield fit.profile.model_copy(update={"card": _card(fit, scores), "uncertainty": uncertainty})


def _card(fit: TablesFit, scores: list[ErrorScore]) -> Card:
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


def _words(s: ErrorScore) -> str:
    return f"MAPE {s.mape:.1f} %, median {s.median_ape:.1f} %, bias {s.bias:+.1f} % ({s.runs} runs)"
