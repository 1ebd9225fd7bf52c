"""How long prompts and outputs are: the distributions a specification can name."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, Tag, model_validator

from loratwin.traces import MAX_TOKENS
from loratwin.workload.arrays import F8, I4
from loratwin.workload.sharegpt import ShareGpt
from loratwin.workload.strict import ExistingFile, Shorthand, Strict, either, refusal
from loratwin.workload.tables import (
    draw_indices,
    draw_lengths,
    levels,
    normal_quantiles,
    scaled_to_mean,
    stretched,
    whole_tokens,
)
from loratwin.workload.trace_file import TraceFile

MAX_MEAN = MAX_TOKENS / 100


class Fixed(Strict):
    """Every request has the same length."""

    kind: Literal["fixed"] = Field("fixed", description="Always the same length.")
    tokens: int = Field(ge=1, le=MAX_TOKENS, description="The length in tokens.")

    def table(self) -> I4:
        """The one length, shape (1,)."""
        return np.array([self.tokens], dtype=np.int32)


class Uniform(Strict):
    """Every whole number of tokens from min to max is equally likely."""

    kind: Literal["uniform"] = Field("uniform", description="Each whole number from min to max is equally likely.")
    min: int = Field(ge=1, le=MAX_TOKENS, description="Shortest length in tokens.")
    max: int = Field(ge=1, le=MAX_TOKENS, description="Longest length in tokens.")

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.max < self.min:
            raise refusal("max", f"must be at least min ({self.min})")
        return self

    def table(self) -> I4:
        """Equally likely lengths, shape (max - min + 1,)."""
        return np.arange(self.min, self.max + 1, dtype=np.int32)


class Lognormal(Strict):
    """The logarithm of the length is normal: many short requests and a long tail."""

    kind: Literal["lognormal"] = Field("lognormal", description="The logarithm of the length is normally distributed.")
    mean: float | None = Field(None, gt=1, le=MAX_MEAN, description="Mean in tokens, after cutting at min and max.")
    std: float | None = Field(None, gt=0, description="Standard deviation in tokens before cutting; with mean.")
    median: float | None = Field(None, ge=1, le=MAX_MEAN, description="Median in tokens; with sigma, instead of mean.")
    sigma: float | None = Field(None, gt=0, le=5, description="Standard deviation of the logarithm; with median.")
    min: int = Field(1, ge=1, le=MAX_TOKENS, description="Shorter lengths are raised to this.")
    max: int = Field(MAX_TOKENS, ge=1, le=MAX_TOKENS, description="Longer lengths are cut to this.")

    @model_validator(mode="after")
    def _one_form(self) -> Lognormal:
        given = {key for key in ("mean", "std", "median", "sigma") if getattr(self, key) is not None}
        if given not in ({"mean", "std"}, {"median", "sigma"}):
            has = ", ".join(sorted(given)) or "none"
            raise refusal("", f"must have mean and std, or median and sigma; has {has}")
        if self.max < self.min:
            raise refusal("max", f"must be at least min ({self.min})")
        if self.mean is not None:
            check_mean(self.mean, self.min, self.max)
        return self

    def table(self) -> I4:
        """Equally likely lengths, shape (TABLE_SIZE,)."""
        if self.mean is None or self.std is None:
            assert self.median is not None and self.sigma is not None
            return whole_tokens(np.clip(self.median * np.exp(self.sigma * normal_quantiles()), self.min, self.max))
        sigma = math.sqrt(math.log1p((self.std / self.mean) ** 2))
        return whole_tokens(scaled_to_mean(np.exp(sigma * normal_quantiles()), self.mean, self.min, self.max))


class Histogram(Strict):
    """Counts of requests by length."""

    kind: Literal["histogram"] = Field("histogram", description="Counts of requests by length.")
    bins: tuple[tuple[int, int, float], ...] | None = Field(
        None, description="Rows [lo, hi, count]: so many requests have lo <= tokens < hi, evenly spread."
    )
    path: ExistingFile | None = Field(None, description="CSV file with the columns lo, hi, count, instead of bins.")
    mean: float | None = Field(None, gt=1, le=MAX_MEAN, description="Scale all to this mean (default: as they are).")

    @model_validator(mode="after")
    def _readable(self) -> Histogram:
        exactly_one(self, "bins", "path")
        _check_bins(self.rows(), "bins" if self.path is None else "path")
        return self

    def rows(self) -> F8:
        """Bins as given or read, shape (num_bins, 3)."""
        if self.path is None:
            return np.array(self.bins, dtype=float).reshape(-1, 3)
        return np.stack([read_column(self.path, name) for name in ("lo", "hi", "count")], axis=1)

    def table(self) -> I4:
        """Equally likely lengths, shape (TABLE_SIZE,)."""
        rows = self.rows()
        low, high, count = rows[rows[:, 2] > 0].T
        share = np.cumsum(count) / count.sum()
        inside = levels()
        k = np.minimum(np.searchsorted(share, inside, side="right"), len(count) - 1)
        start = np.concatenate([[0.0], share[:-1]])
        lengths = low[k] + (inside - start[k]) / (share - start)[k] * (high - low)[k]
        if self.mean is None:
            whole: I4 = np.clip(np.floor(lengths), low[k], high[k] - 1).astype(np.int32)
            return whole
        return whole_tokens(scaled_to_mean(np.sort(lengths) - 0.5, self.mean, 1, MAX_TOKENS))


class SampledLengths(Strict):
    """Lengths seen somewhere, drawn with replacement."""

    kind: Literal["samples"] = Field("samples", description="Lengths seen somewhere; each is equally likely.")
    values: tuple[Annotated[int, Field(ge=1, le=MAX_TOKENS)], ...] | None = Field(
        None, min_length=1, description="The lengths in tokens."
    )
    path: ExistingFile | None = Field(None, description="CSV file to take the lengths from, instead of values.")
    column: str | None = Field(None, description="Column of that file.")
    mean: float | None = Field(None, gt=1, le=MAX_MEAN, description="Scale all to this mean (default: as they are).")

    @model_validator(mode="after")
    def _readable(self) -> SampledLengths:
        exactly_one(self, "values", "path")
        if (self.path is None) != (self.column is None):
            raise refusal("column", "must be given with path, and only then")
        lengths = self.lengths()
        if lengths.min() < 1 or lengths.max() > MAX_TOKENS:
            extent = f"{lengths.min():g} to {lengths.max():g}"
            raise refusal("column", f"lengths must be from 1 to {MAX_TOKENS}, these are from {extent}")
        return self

    def lengths(self) -> F8:
        """The samples as given or read, shape (num_samples,)."""
        if self.path is None or self.column is None:
            return np.array(self.values, dtype=float)
        return read_column(self.path, self.column)

    def table(self) -> I4:
        """Equally likely lengths, shape (num_samples,), or (TABLE_SIZE,) when they are scaled."""
        if self.mean is None:
            return self.lengths().astype(np.int32)
        return whole_tokens(scaled_to_mean(stretched(self.lengths()), self.mean, 1, MAX_TOKENS))


def _number_or_kind(value: Any) -> str | None:
    if isinstance(value, (int, float)):
        return "tokens"
    return "distribution" if isinstance(value, (Mapping, Strict)) else None


_Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS, description="Always this many tokens.")]
_Named = Annotated[Fixed | Uniform | Lognormal | Histogram | SampledLengths, Field(discriminator="kind")]
Distribution = Annotated[
    Annotated[_Tokens, Tag("tokens")] | Annotated[_Named, Tag("distribution")],
    either(_number_or_kind, "a number of tokens, or a mapping with the key 'kind'"),
]
"""One number of tokens, or a distribution of them."""


class Separate(Strict):
    """Prompts and outputs each from a distribution of their own, independent of each other."""

    prompt: Distribution = Field(description="Prompt lengths: a number of tokens, or a distribution.")
    output: Distribution = Field(description="Output lengths: a number of tokens, or a distribution.")

    def draw(self, prompt_rng: np.random.Generator, output_rng: np.random.Generator, num: int) -> tuple[I4, I4]:
        """Prompt and output tokens of `num` requests, each of shape (num,)."""
        return draw_lengths(prompt_rng, _table(self.prompt), num), draw_lengths(output_rng, _table(self.output), num)


def _table(distribution: int | Fixed | Uniform | Lognormal | Histogram | SampledLengths) -> I4:
    return (Fixed(tokens=distribution) if isinstance(distribution, int) else distribution).table()


class TraceLengths(TraceFile):
    """Prompt and output of requests in a trace, drawn with replacement; what belongs together stays together."""

    kind: Literal["trace"] = Field("trace", description="Lengths of the requests in a file; each is equally likely.")

    @model_validator(mode="after")
    def _has_lengths(self) -> TraceLengths:
        trace = self.trace()
        if trace.prompt_tokens is None or trace.output_tokens is None:
            lacks = "prompt" if trace.prompt_tokens is None else "output"
            raise refusal("path", f"has no {lacks} tokens; columns: {{{lacks}: ...}} says where they are")
        return self

    def draw(self, prompt_rng: np.random.Generator, output_rng: np.random.Generator, num: int) -> tuple[I4, I4]:
        """Prompt and output tokens of `num` requests, each of shape (num,)."""
        trace = self.trace()
        assert trace.prompt_tokens is not None and trace.output_tokens is not None  # or it would have been refused
        rows = draw_indices(prompt_rng, len(trace.prompt_tokens), num)
        return trace.prompt_tokens[rows], trace.output_tokens[rows]


def _named_or_separate(value: Any) -> str | None:
    kind = value.get("kind", "") if isinstance(value, Mapping) else value
    if isinstance(kind, TraceLengths) or kind == "trace":
        return "trace"
    if isinstance(kind, ShareGpt) or kind == "sharegpt":
        return "named"
    return "separate" if isinstance(kind, Separate) or kind == "" else None


_NamedSet = Annotated[ShareGpt, Shorthand("sharegpt")]
Lengths = Annotated[
    Annotated[_NamedSet, Tag("named")] | Annotated[TraceLengths, Tag("trace")] | Annotated[Separate, Tag("separate")],
    either(_named_or_separate, "sharegpt, the kind trace, or a mapping with the keys prompt and output"),
]
"""Lengths of requests: a named set, or prompt and output separately."""


def check_mean(mean: float, low: int, high: int) -> None:
    """Refuse a mean that no lengths between low and high can have."""
    if not low < mean < high:
        raise refusal("mean", f"must lie between min ({low}) and max ({high})")


def exactly_one(model: Strict, *keys: str) -> None:
    """Refuse a model that has none of these keys, or several."""
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        raise refusal("", f"must have exactly one of {', '.join(keys)}; has {' and '.join(given) or 'none'}")


def _check_bins(rows: F8, key: str) -> None:
    low, high, count = rows.T
    if not len(rows) or not count.sum() > 0:
        raise refusal(key, "must have at least one row with a count above 0")
    for bad, problem in (
        ((low < 1) | (high > MAX_TOKENS), f"lo and hi must be from 1 to {MAX_TOKENS}"),
        (high <= low, "hi must be above lo"),
        (count < 0, "count must not be negative"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise refusal(f"{key}[{row}]", f"{problem}; the row is {rows[row].tolist()}")


def read_column(path: Path, column: str) -> F8:
    """One column of a CSV file as numbers, shape (num_rows,).

    Raises
    ------
    PydanticCustomError
        The file has no such column or no rows, or a value is not a finite number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refusal("path", f"cannot be read as CSV ({error})") from None
    if column not in header:
        raise refusal("path", f"has no column {column!r}; it has {', '.join(header)}")
    if not rows:
        raise refusal("path", "has no rows")
    return np.array([_finite(row[column], column, line) for line, row in enumerate(rows, start=2)])


def _finite(cell: str | None, column: str, line: int) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise refusal("path", f"line {line}, {column}: {cell!r} is not a number")
    return value
