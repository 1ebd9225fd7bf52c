"""GPU series by NVML, on the cadence of the scrapes; nothing where there is no GPU, driver or binding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from loratwin.records.series import Samples
from loratwin.telemetry.cadence import check_period
from loratwin.telemetry.sampler import Sampler
from loratwin.telemetry.table import Kind, SeriesKey

Reader = Callable[[Any, Any], float]

QUANTITIES: dict[str, Reader] = {
    "utilisation": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,  # share of time, 0 to 1
    "memory_used_bytes": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    "power_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "sm_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
}
"""What is read of each GPU, by the name of its series."""


class GpuSampler(Sampler):
    """A thread that reads all GPUs of this machine at start + k x `every_s`.

    Series have the labels `gpu` (NVML's index) and `gpu_name`. What a GPU does not support has no series; a GPU that
    falls off is NaN from then on.

    Parameters
    ----------
    nvml
        The module `pynvml`; left out, it is imported.

    Raises
    ------
    InputError
        The period is none, or the journal cannot be written.
    """

    def __init__(self, every_s: float = 1.0, journal: Path | None = None, *, nvml: Any = None) -> None:
        check_period(every_s, "GPU samples")
        self._nvml = _started(nvml)
        self._gpus = _gpus(self._nvml)
        super().__init__("gpu", every_s, journal if self._gpus else None)

    def __enter__(self) -> GpuSampler:
        if self._gpus:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gpus:
            self._stop()
        _shut_down(self._nvml)

    def samples(self, zero_s: float, from_s: float, to_s: float) -> Samples | None:
        """What was read in [from_s, to_s] of `time.monotonic`, times from `zero_s`; None: there is no GPU."""
        return self._table.samples(zero_s, from_s, to_s) if self._gpus else None

    def _take(self) -> Mapping[SeriesKey, float]:
        values: dict[SeriesKey, float] = {}
        for index, (gpu, name) in self._gpus.items():
            for quantity, read in QUANTITIES.items():
                with suppress(self._nvml.NVMLError):
                    key = SeriesKey(quantity, (("gpu", str(index)), ("gpu_name", name)), Kind.GAUGE)
                    values[key] = float(read(self._nvml, gpu))
        return values


def gpu_name(nvml: Any = None) -> str:
    """The first GPU of this machine as NVML names it; empty if there is none."""
    started = _started(nvml)
    names = [name for _, name in _gpus(started).values()]
    _shut_down(started)
    return names[0] if names else ""


def _started(nvml: Any) -> Any:
    """The module, initialised; None: no binding, or no driver."""
    if nvml is None:
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _gpus(nvml: Any) -> dict[int, tuple[Any, str]]:
    """Handle and name of each GPU that answers, by its index."""
    found: dict[int, tuple[Any, str]] = {}
    if nvml is None:
        return found
    with suppress(nvml.NVMLError):
        for index in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):
                gpu = nvml.nvmlDeviceGetHandleByIndex(index)
                name = nvml.nvmlDeviceGetName(gpu)
                found[index] = gpu, name.decode() if isinstance(name, bytes) else str(name)
    return found


def _shut_down(nvml: Any) -> None:
    if nvml is not None:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
