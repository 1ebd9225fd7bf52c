"""The regression's rows: what each coefficient of `StepTimeModel` is multiplied by, on average over a run's steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.micro import MicroPoint
from loratwin.calibrate.published.operating_point import Match
from loratwin.engines.versions import EngineBehaviour
from loratwin.kernel import StepFeatures
from loratwin.perf.step_time import COEFFICIENTS, StepColumns, step_columns

F8 = NDArray[np.float64]

LINEAR = tuple(name for name in COEFFICIENTS if not name.startswith("lora_decode"))
"""Coefficients that averages over runs tell, in the order of the columns: all their requests have an adapter."""

_TELLING = [COEFFICIENTS.index(name) for name in LINEAR]

_MICRO_SEQS = 2048
"""As of the serving runs; the graphs of the measured engine do not depend on it."""

_ROOFLINE_STRIDE = 5
"""The roofline is averaged over every fifth sampled step: it hardly varies, and is evaluated often."""


@dataclass(frozen=True)
class TableRows:
    """Rows of the regression: arrays of shape (rows, ...), the micro measurements behind the serving runs."""

    features: F8  # (rows, len(LINEAR))
    duration_s: F8  # (rows,) mean step, measured or matched
    known_s: F8  # (rows,) of it, not to be explained: swap-ins
    tokens: tuple[F8, ...]  # per row, padded tokens of its steps: what the roofline is averaged over
    weight: F8  # (rows,)
    group: tuple[str, ...]  # workload of the row, or kind of micro measurement

    def take(self, rows: NDArray[np.int64]) -> TableRows:
        """These rows, by their numbers."""
        return TableRows(
            self.features[rows],
            self.duration_s[rows],
            self.known_s[rows],
            tuple(self.tokens[i] for i in rows),
            self.weight[rows],
            tuple(self.group[i] for i in rows),
        )

    def without(self, group: str) -> TableRows:
        """The rows of all other groups."""
        return self.take(np.flatnonzero(np.array(self.group) != group))


def table_rows(
    matches: Sequence[Match], micro: Sequence[MicroPoint], behaviour: EngineBehaviour, graph_tokens: float
) -> TableRows:
    """Rows from matched serving runs and from micro measurements, of an engine that behaves so."""

    def columns(steps: StepFeatures, slots: int, rank: int, seqs: int) -> StepColumns:
        return step_columns(steps, slots, rank, behaviour, graph_tokens, seqs)

    runs = [columns(m.sample, m.run.max_loras, m.run.max_lora_rank, m.run.max_num_seqs) for m in matches]
    points = [columns(p.step, p.max_loras, p.max_lora_rank, _MICRO_SEQS) for p in micro]
    means = [part.linear.mean(axis=0)[_TELLING] for part in [*runs, *points]]
    return TableRows(
        features=np.array(means),
        duration_s=np.array([m.step_s for m in matches] + [p.step_s for p in micro]),
        known_s=np.array([m.swap_s for m in matches] + [0.0] * len(micro)),
        tokens=tuple([part.tokens[::_ROOFLINE_STRIDE] for part in runs] + [part.tokens for part in points]),
        weight=np.array([1.0] * len(matches) + [p.weight for p in micro]),
        group=tuple([m.run.group for m in matches] + [p.kind for p in micro]),
    )
