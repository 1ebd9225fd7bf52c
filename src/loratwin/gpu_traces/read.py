"""A file of any of the tools: which one's it is, by its first bytes."""

from __future__ import annotations

from pathlib import Path

from loratwin.errors import DataError
from loratwin.gpu_traces.ncu import read_ncu
from loratwin.gpu_traces.nsys import read_nsys
from loratwin.gpu_traces.torch_profiler import read_torch
from loratwin.gpu_traces.trace import KernelTrace

SQLITE, GZIP = b"SQLite format 3\x00", b"\x1f\x8b"


def read_trace(path: str | Path) -> KernelTrace:
    """Kernels that a file tells of: an sqlite export of Nsight Systems, a CSV of Nsight Compute, or a Chrome trace.

    Raises
    ------
    DataError
        There is no such file, it is none of these, or it is damaged.
    """
    file = Path(path)
    try:
        with open(file, "rb") as opened:
            first = opened.read(64)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    if first.startswith(SQLITE) or file.suffix in (".sqlite", ".db"):
        return read_nsys(file)
    if first.startswith(GZIP) or first.lstrip()[:1] in (b"{", b"["):
        return read_torch(file)
    if file.suffix in (".nsys-rep", ".qdrep"):
        raise DataError(f"{file}: a report: export it first (nsys export --type sqlite {file})")
    if file.suffix == ".ncu-rep":
        raise DataError(f"{file}: a report: export it first (ncu --import {file} --csv --page raw > {file.stem}.csv)")
    return read_ncu(file)
