"""Servers under a profiler: Nsight Systems or Compute around the server's command, its report in the run's folder.

Arguments are those that the tools document; compared with their documentation, and run with stand-ins only.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from loratwin.errors import InputError

PROFILERS = {
    "nsys": (
        "nsys profile --output {report} --force-overwrite true",
        "--trace cuda,nvtx,osrt --sample none --trace-fork-before-exec true",
    ),
    "ncu": (
        "ncu --export {report} --force-overwrite",
        "--target-processes all --launch-skip 1000 --launch-count 200",
    ),
}
"""Of each: what starts it, where its report goes, and what it is told unless the grid says otherwise: CUDA and NVTX of
all processes; of Nsight Compute, which repeats each kernel, 200 launches after the first 1,000."""


def profiled(command: str, profiler: str | None, arguments: str | None, folder: Path) -> str:
    """A server's command under a profiler.

    Parameters
    ----------
    profiler
        nsys or ncu; None: the command as it is.
    arguments
        Of the profiler; None: those that are usual.
    folder
        Of the run; the report is `nsys.nsys-rep` or `ncu.ncu-rep` there.

    Raises
    ------
    InputError
        A profiler that is not known.
    """
    if profiler is None:
        return command
    if profiler not in PROFILERS:
        raise InputError(f"server.profiler = {profiler!r}, but it must be one of {', '.join(PROFILERS)}")
    start, usual = PROFILERS[profiler]
    start = start.format(report=shlex.quote(str(folder / profiler)))
    return " ".join([start, usual if arguments is None else arguments, command])


def export(profiler: str | None, folder: Path) -> str:
    """Export a report as what other programs read (nsys.sqlite, ncu.csv); why not, empty if it was done.

    A profile that cannot be exported does not spoil the run: its report is there.
    """
    if profiler is None:
        return ""
    report, exported, words = _export(profiler, folder)
    if not report.exists():
        return f"no report of {profiler}: {report.name} is not there"
    try:
        with open(exported, "wb") as out:
            done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, timeout=EXPORT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{report.name} was not exported: {error}"
    return f"{report.name} was not exported: {done.stderr.decode(errors='replace')[-200:]}" if done.returncode else ""


EXPORT_S = 1800.0
"""Seconds that an export may take; reports of an hour have gigabytes."""


def _export(profiler: str, folder: Path) -> tuple[Path, Path, list[str]]:
    """The report, what is made of it, and the command that does, printing the latter or writing it itself."""
    if profiler == "ncu":
        report = folder / "ncu.ncu-rep"
        return report, folder / "ncu.csv", ["ncu", "--import", str(report), "--csv", "--page", "raw"]
    report, target = folder / "nsys.nsys-rep", folder / "nsys.sqlite"
    words = ["nsys", "export", "--type", "sqlite", "--force-overwrite", "true", "--output", str(target), str(report)]
    return report, folder / "nsys-export.log", words
