"""The learned model as a file: trees, processes and their intervals, without code; predicts with numpy alone.

A zip archive of numpy arrays (`.npz`, read without pickle) and a header as JSON text.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.learn.cases.case import F8, Mix
from loratwin.learn.cases.physics import I8, steady
from loratwin.learn.models.features import (
    CONFIGURATION,
    LOG_WORKLOAD,
    WORKLOAD,
    configuration_features,
    log_workload_features,
    workload_features,
)
from loratwin.learn.models.forest import Forest
from loratwin.learn.models.process import Process
from loratwin.learn.models.targets import TARGETS
from loratwin.perf import Profile
from loratwin.records import write_atomically

FORMAT = 2
"""Version of the file; a reader refuses any other."""

SHIPPED = "default.npz"

LOADED = (*CONFIGURATION, "log_load")
"""What trees for a server see: last, the logarithm of its adapters / the most that are served, as predicted."""

Part = Forest | Process
"""What predicts one target."""

KINDS: dict[str, type[Forest] | type[Process]] = {"workload": Process, "configuration": Forest}
"""Of the parts, by the target's level."""


@dataclass(frozen=True)
class Header:
    """What a model says of itself.

    Parameters
    ----------
    profiles
        By name, those whose twins it was learned from: `signature` of each.
    features
        Of workloads and of configurations, in order.
    ranges
        Lowest and highest value of each workload feature that was learned from; also of `adapters` and `slots`.
    interval_factor
        By target: 90 % of unseen cases are within prediction / factor ... prediction x factor.
    held_out
        By target: error in words.
    """

    format: int
    loratwin_version: str
    profiles: dict[str, tuple[float, ...]]
    workload_features: tuple[str, ...]
    configuration_features: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    interval_factor: dict[str, float]
    held_out: dict[str, str]
    learned_from: str


@dataclass(frozen=True, eq=False)
class PredictedFigures:
    """Predictions for configurations; each of shape (num_configs,)."""

    starts: F8  # 1 or 0
    kv_tokens: F8
    share: F8  # of the offered tokens that are served
    ttft_ms: F8
    tpot_ms: F8
    itl_ms: F8


@dataclass(frozen=True, eq=False)
class LearnedModel:
    """What predicts each target, as `learn train` made it.

    Parameters
    ----------
    header
        What it was learned from, and how well.
    parts
        By target.
    """

    header: Header
    parts: dict[str, Part]

    def workload_figure(self, target: str, mix: Mix, profile: Profile) -> float:
        """`served`, `throughput`, `slots` or `latency_slots` of a workload."""
        return float(np.exp(self._log_figure(target, mix, profile)))

    def _log_figure(self, target: str, mix: Mix, profile: Profile) -> float:
        features = log_workload_features(workload_features(mix, profile))[None, :]
        return float(self.parts[target].predict(features)[0])

    def figures(
        self, mix: Mix, profile: Profile, adapters: Sequence[int] | I8, slots: Sequence[int] | I8
    ) -> PredictedFigures:
        """What servers of a workload would do; latencies mean little where they starve."""
        x, rough = configuration_features(mix, profile, adapters, slots)
        x = np.column_stack([x, np.log(adapters) - self._log_figure("served", mix, profile)])
        answers = {name: self.parts[name].predict(x) for name in ("share", "ttft", "tpot", "itl")}
        return PredictedFigures(
            starts=rough.starts.astype(float),
            kv_tokens=rough.kv_tokens,
            share=np.clip(answers["share"] / overload("share", x), 0.0, 1.0),
            ttft_ms=np.exp(answers["ttft"]),
            tpot_ms=np.exp(answers["tpot"]),
            itl_ms=np.exp(answers["itl"]),
        )

    def outside(self, mix: Mix, profile: Profile) -> tuple[str, ...]:
        """What of a workload lies outside what was learned, one line each."""
        notes = []
        if profile.name not in self.header.profiles:
            known = ", ".join(name.rsplit("/", 1)[-1] for name in self.header.profiles)
            notes.append(f"outside what was learned: profile {profile.name}, learned {known}")
        elif not np.allclose(self.header.profiles[profile.name], signature(profile), rtol=SAME):
            notes.append(f"learned from other coefficients of {profile.name}: train again")
        for name, value in zip(WORKLOAD, workload_features(mix, profile), strict=True):
            low, high = self.header.ranges[name]
            if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
                notes.append(f"outside what was learned: {name} = {value:.4g}, learned {low:.4g} to {high:.4g}")
        return tuple(notes)


SAME = 0.002
"""Signatures that differ by less are of the same coefficients."""


def signature(profile: Profile) -> tuple[float, ...]:
    """What a profile comes to on two servers (full step, milliseconds; KV tokens): other coefficients show in it."""
    half = np.array([0.5, 0.5])
    mix = Mix(np.array([0.05, 0.2]), half, 16, 0, 16, 16, 16, 220.0, 200.0, 350.0)
    seen = steady(mix, profile, np.array([64, 128]), np.array([16, 64]))
    return tuple(float(f"{value:.6g}") for value in (*(1e3 * seen.full_step_s), *(1e3 * seen.step_s), *seen.kv_tokens))


def overload(target: str, x: F8) -> F8:
    """What the forest of the share is divided by, shape (num_rows,): the estimated utilization where it is above 1.

    A server in overload serves a throughput, not a share: beyond what was learned the share falls as the load grows.
    """
    if target != "share":
        return np.ones(len(x))
    factor: F8 = np.exp(np.maximum(0.0, x[:, CONFIGURATION.index("log_utilization")]))
    return factor


def dump_model(model: LearnedModel) -> bytes:
    """The file's bytes; the same for the same model."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "header.json", json.dumps(asdict(model.header), indent=1).encode())
        for target, part in sorted(model.parts.items()):
            for name, array in sorted(part.arrays().items()):
                stored = io.BytesIO()
                np.lib.format.write_array(stored, array, allow_pickle=False)
                _add(archive, f"{target}/{name}.npy", stored.getvalue())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)


def save_model(model: LearnedModel, path: Path) -> None:
    """Write a model, whole or not at all.

    Parameters
    ----------
    model
        To be written.
    path
        A file (.npz); one that is there is replaced.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    write_atomically(path, dump_model(model))


def load_model(path: Path | None = None) -> LearnedModel:
    """A model from a file; None: the one that ships with the package.

    Raises
    ------
    InputError
        The file cannot be read.
    DataError
        It is no model, damaged, of another version, or lacks features or targets that are needed.
    """
    return _shipped() if path is None else _parse(_read(path), str(path))


@lru_cache(maxsize=1)
def _shipped() -> LearnedModel:
    try:
        data = files("loratwin.learn").joinpath("models").joinpath(SHIPPED).read_bytes()
    except OSError:
        raise InputError("no learned model ships with this build; `loratwin learn train` makes one") from None
    return _parse(data, f"the shipped model {SHIPPED}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _parse(data: bytes, where: str) -> LearnedModel:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            header = _header(json.loads(archive.read("header.json")), where)
            arrays = {name: _array(archive, name) for name in archive.namelist() if name.endswith(".npy")}
        return LearnedModel(header, _parts(arrays))
    except DataError as error:
        raise DataError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: not a learned model of loratwin, or damaged: {detail}") from None


def _array(archive: zipfile.ZipFile, name: str) -> Any:
    return np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)


def _header(document: dict[str, Any], where: str) -> Header:
    if document.get("format") != FORMAT:
        written = document.get("format")
        raise DataError(
            f"{where}: format {written!r}; this version understands format {FORMAT}: train again or upgrade"
        )
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    fields["profiles"] = {name: tuple(float(v) for v in values) for name, values in document["profiles"].items()}
    fields["ranges"] = {name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()}
    header = Header(**fields)
    for kind, has, needed in (
        ("workload", header.workload_features, LOG_WORKLOAD),
        ("configuration", header.configuration_features, LOADED),
    ):
        if has != needed:
            odd = sorted(set(needed) ^ set(has)) or ["their order"]
            raise DataError(f"{where}: other {kind} features than this version computes ({odd[0]}): train again")
    missing = sorted((set(TARGETS) - set(header.interval_factor)) | (set(WORKLOAD) - set(header.ranges)))
    if missing:
        raise DataError(f"{where}: nothing on {missing[0]!r}: train again")
    return header


def _parts(arrays: dict[str, Any]) -> dict[str, Part]:
    by_target: dict[str, dict[str, Any]] = {}
    for path, array in arrays.items():
        target, name = path.removesuffix(".npy").split("/")
        by_target.setdefault(target, {})[name] = array
    missing = sorted(set(TARGETS) - set(by_target))
    if missing:
        raise DataError(f"nothing on the target {missing[0]!r}: train again")
    return {name: _part(name, by_target[name]) for name in TARGETS}


def _part(name: str, arrays: dict[str, Any]) -> Part:
    level = TARGETS[name].level
    try:
        return KINDS[level].from_arrays(arrays, len(LOG_WORKLOAD if level == "workload" else LOADED))
    except DataError as error:
        raise DataError(f"target {name!r}: {error}") from None


def saved_text(model: LearnedModel, path: Path) -> str:
    """The held-out error of each target, then how large the file is and what the model was learned from."""
    errors = [f"{target}: {error}" for target, error in model.header.held_out.items()]
    return "\n".join([*errors, f"{path}: {path.stat().st_size / 1000:.0f} kB, {model.header.learned_from}"])
