"""Kernels of GPU profiles: tables by class and kernel, shares of the time by batch, a roofline; as text and page."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

from loratwin import formatting
from loratwin.errors import InputError
from loratwin.gpu_traces import CLASSES, ClassFigures, KernelTrace, by_class, by_kernel, read_trace
from loratwin.perf import Gpu, find_gpu
from loratwin.records import write_atomically
from loratwin.report.charts import Chart, ChartSeries, Panel
from loratwin.report.tables import Cell, Column, Row, Table, word, write_csv
from loratwin.version import __version__

_COLUMNS = (
    ("launches", "launches", "", 1.0),
    ("seconds", "time", "ms", 1e3),
    ("share", "of the time", "share", 1.0),
    ("bytes_per_s", "memory, GB/s", "", 1e-9),
    ("dram_busy", "of its peak", "share", 1.0),
    ("stalled", "no warp issues", "share", 1.0),
    ("memory_wait", "waits for memory", "share", 1.0),
    ("l1_hits", "L1 hits", "share", 1.0),
    ("l2_hits", "L2 hits", "share", 1.0),
    ("intensity", "operations/byte", "", 1.0),
    ("operations_per_s", "TFLOP/s", "", 1e-12),
)
"""Field of `ClassFigures`, heading, unit (as `formatting.figure`), and what the field is multiplied by."""

_UNITS = {"seconds": "time_ms", "bytes_per_s": "memory_gb_per_s", "operations_per_s": "tflop_per_s"}


class KernelReport(NamedTuple):
    """What some profiles say."""

    traces: tuple[KernelTrace, ...]
    classes: list[ClassFigures]
    kernels: list[ClassFigures]
    gpu: Gpu | None


def kernel_report(paths: Sequence[str | Path], gpu: str | None = None) -> KernelReport:
    """Read profiles: exports of Nsight Systems and Compute, traces of torch.profiler.

    Parameters
    ----------
    paths
        Files, of one tool or several.
    gpu
        Whose data sheet the roofline is on; None: the one that a file names, if it is in the table.

    Returns
    -------
    KernelReport
        Figures by class and by kernel; `kernels_text` and `write_kernel_page` show it.

    Raises
    ------
    DataError, InputError
        A file cannot be used, or a GPU that was named is not known.
    """
    traces = tuple(read_trace(path) for path in paths)
    return KernelReport(traces, by_class(traces), by_kernel(traces), gpu_of(traces, gpu))


def gpu_of(traces: Sequence[KernelTrace], wanted: str | None) -> Gpu | None:
    """The GPU that is named, else the first of the table that a trace names; None: neither."""
    if wanted is not None:
        return find_gpu(wanted)
    for name in (trace.gpu for trace in traces if trace.gpu):
        try:
            return find_gpu(name)
        except InputError:
            continue
    return None


def kernels_text(report: KernelReport) -> str:
    """By class, and the kernels that take most, in 80 columns."""
    lines = [f"{trace.file}: {trace.source}, {len(trace.launches):,} launches" for trace in report.traces]
    lines += ["", *_lines("class", report.classes, 16)]
    lines += ["", *_lines("kernel", report.kernels[:10], 40)]
    return "\n".join(lines)


def _lines(heading: str, rows: Sequence[ClassFigures], width: int) -> list[str]:
    columns = [column for column in _COLUMNS if any(not isnan(float(getattr(row, column[0]))) for row in rows)]
    phases = any(row.phase for row in rows)
    where = [("phase", [row.phase for row in rows]), ("batch", [str(row.batch or "") for row in rows])]
    shown = [(title, cells) for title, cells in where if phases]
    left_out = []
    for column in columns:
        title, cells = column[1], [_figure(row, column) for row in rows]
        if sum(2 + _least(*each) for each in [*shown, (title, cells)]) <= formatting.WIDTH - _LEAST_NAME:
            shown.append((title, cells))
        else:
            left_out.append(title)
    most = max(_LEAST_NAME, min(width, formatting.WIDTH - sum(2 + _least(*each) for each in shown)))
    table = [[heading, *(title for title, _ in shown)]]
    table += [[_short(row.name, most), *(cells[i] for _, cells in shown)] for i, row in enumerate(rows)]
    more = [f"left out, for -o FILE.html or --csv FOLDER: {', '.join(left_out)}"] if left_out else []
    return [*formatting.aligned(table, left=1).split("\n"), *more]


def _least(title: str, cells: Sequence[str]) -> int:
    """Characters of a column whose title may go on below."""
    return max(map(len, [*title.split(), *cells]))


_LEAST_NAME = 16
"""Characters of a kernel's name that are always shown."""


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."


def _figure(row: ClassFigures, column: tuple[str, str, str, float]) -> str:
    name, _, unit, times = column
    return formatting.figure(times * float(getattr(row, name)), unit)


def kernel_tables(report: KernelReport) -> list[Table]:
    """By class, and by kernel."""
    return [
        _table("kernel-classes", "Time by class of kernel, phase and batch", report.classes),
        _table("kernels", "Kernels that take most", report.kernels),
    ]


def _table(name: str, title: str, rows: Sequence[ClassFigures]) -> Table:
    columns = [Column("name", "name", is_word=True), Column("phase", "phase", is_word=True), Column("batch", "batch")]
    columns += [Column(_UNITS.get(field, field), heading) for field, heading, _, _ in _COLUMNS]
    cells = [
        Row([
            word(row.name), word(row.phase), Cell(str(row.batch or ""), row.batch or None),
            *(Cell(_figure(row, column), column[3] * float(getattr(row, column[0]))) for column in _COLUMNS),
        ])
        for row in rows
    ]  # fmt: skip
    return Table(name, title, columns, cells, find="kernel")


def share_chart(rows: Sequence[ClassFigures]) -> Chart:
    """The share of each class in the time, against the batch, a panel for each phase."""
    panels = []
    for phase in dict.fromkeys(row.phase for row in rows):
        mine = [row for row in rows if row.phase == phase]
        batches = sorted({row.batch for row in mine})
        series = [
            ChartSeries(
                kind,
                [float(batches.index(row.batch)) for row in mine if row.name == kind],
                [100 * row.share for row in mine if row.name == kind],
                "stack",
                colour=number,
            )
            for number, kind in enumerate(CLASSES)
            if any(row.name == kind for row in mine)
        ]
        ticks = [str(batch) if batch else "all" for batch in batches]
        panels.append(Panel(phase or "all phases", "batch", "% of the time", series, ticks))
    return Chart("kernel-shares", "Share of each class of kernel in the time", panels, one_legend=True)


def roofline_chart(rows: Sequence[ClassFigures], gpu: Gpu) -> Chart | None:
    """Operations per second against operations per byte, under what the GPU's data sheet allows; None: nothing told."""
    known = [row for row in rows if row.intensity > 0 and row.operations_per_s > 0]
    if not known:
        return None
    corner = gpu.flops / gpu.memory_bytes_per_s
    ends = [min(0.5 * min(row.intensity for row in known), corner / 10), corner, 10 * corner]
    roof = [min(gpu.flops, gpu.memory_bytes_per_s * at) / 1e12 for at in ends]
    series = [ChartSeries(f"{gpu.name}, data sheet", ends, roof, "line", colour=7)]
    for number, kind in enumerate(CLASSES):
        mine = [row for row in known if row.name == kind]
        if mine:
            x, y = [row.intensity for row in mine], [row.operations_per_s / 1e12 for row in mine]
            series.append(ChartSeries(kind, x, y, "points", colour=number))
    panel = Panel("Roofline", "operations/byte", "TFLOP/s", series, log="xy")
    return Chart("roofline", f"Roofline of {gpu.name}", [panel], height=4.2)


def kernel_charts(report: KernelReport) -> list[Chart]:
    """What can be drawn."""
    roofline = roofline_chart(report.classes, report.gpu) if report.gpu is not None else None
    return [share_chart(report.classes), *([roofline] if roofline is not None else [])]


def write_kernel_page(report: KernelReport, path: str | Path) -> Path:
    """One self-contained HTML file.

    Raises
    ------
    InputError
        It cannot be written, or is no .html.
    """
    from loratwin.report.page import environment
    from loratwin.report.write import check_html

    check_html(path)
    sources = "; ".join(f"{trace.file} ({trace.source})" for trace in report.traces)
    page = (
        environment()
        .get_template("kernels.html.j2")
        .render(
            title="Kernels",
            introduction=f"{sources}. Times are the GPU's; a dash: the tool does not tell. A phase is the NVTX range "
            "(or record_function) that the kernel was launched in.",
            charts=kernel_charts(report),
            tables=kernel_tables(report),
            version=__version__,
        )
    )
    return write_atomically(path, page)


def write_kernel_tables(report: KernelReport, folder: str | Path) -> list[Path]:
    """Both tables as CSV.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    return write_csv(kernel_tables(report), folder)


def kernels_json(report: KernelReport) -> dict[str, Any]:
    """As plain data; what is not told is null."""

    def plain(row: ClassFigures) -> dict[str, Any]:
        return {name: None if isinstance(v, float) and isnan(v) else v for name, v in vars(row).items()}

    return {
        "files": [{"file": trace.file, "tool": trace.source, "gpu": trace.gpu or None} for trace in report.traces],
        "classes": [plain(row) for row in report.classes],
        "kernels": [plain(row) for row in report.kernels],
    }
