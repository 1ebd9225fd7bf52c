"""How far a profile's coefficients can be off, and profiles that are as plausible as it.

Errors are standard errors; coefficients are positive, so they are taken as lognormal with the fitted value as median
(one fitted as 0: as the positive half of a normal). Correlations are those of the normal variables underneath.
What no coefficient explains (the model's own error) is kept as the spread of log(measured / predicted) of figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, model_validator

F8 = NDArray[np.float64]

_BOUNDS = {"step_time.roofline_power": (1.0, 20.0)}


class Uncertainty(BaseModel):
    """Standard errors by coefficient, as `step_time.weights_s`, in the coefficient's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    standard_errors: dict[str, NonNegativeFloat]
    correlated: tuple[str, ...] = ()  # coefficients of the correlation matrix
    correlation: tuple[tuple[float, ...], ...] = ()  # its rows
    residual: dict[str, NonNegativeFloat] = {}  # by figure: spread of log(measured / predicted) beyond the coefficients
    source: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Uncertainty:
        n = len(self.correlated)
        if len(self.correlation) != n or any(len(row) != n for row in self.correlation):
            raise ValueError(f"correlation: {n} coefficients need {n} rows of {n} numbers")
        missing = [name for name in self.correlated if name not in self.standard_errors]
        if missing:
            raise ValueError(f"correlated: {missing[0]} has no standard error")
        matrix = np.array(self.correlation).reshape(n, n)
        if n and (not np.allclose(matrix, matrix.T, atol=1e-6) or np.linalg.eigvalsh(matrix).min() < -1e-6):
            raise ValueError("correlation: not a correlation matrix (symmetric, no negative eigenvalue)")
        return self

    def normals(self, rng: np.random.Generator) -> dict[str, float]:
        """A standard normal number for each coefficient, correlated as they are."""
        drawn = dict(zip(self.standard_errors, rng.standard_normal(len(self.standard_errors)), strict=True))
        if self.correlated:
            values, vectors = np.linalg.eigh(np.array(self.correlation))
            root = vectors * np.sqrt(np.clip(values, 0.0, None))
            mixed = root @ np.array([drawn[name] for name in self.correlated])
            drawn |= dict(zip(self.correlated, mixed, strict=True))
        return {name: float(value) for name, value in drawn.items()}

    def sample(self, coefficients: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The parts of a profile (`step_time` and so on, as dictionaries) with each coefficient drawn anew."""
        parts = {part: dict(values) if isinstance(values, Mapping) else values for part, values in coefficients.items()}
        for name, z in self.normals(rng).items():
            part, _, key = name.partition(".")
            low, high = _BOUNDS.get(name, (0.0, np.inf))
            parts[part][key] = min(high, max(low, drawn_value(parts[part][key], self.standard_errors[name], z)))
        return parts


def drawn_value(value: float, standard_error: float, z: float) -> float:
    """The coefficient at `z` standard deviations: lognormal around its value, or half a normal where that is 0."""
    if standard_error == 0.0:
        return value
    if value == 0.0:
        return abs(z) * standard_error
    return float(value * np.exp(z * np.sqrt(np.log1p((standard_error / value) ** 2))))
