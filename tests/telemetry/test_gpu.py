"""GPU series from a stand-in for NVML that fails as NVML does, and from the real binding without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.records.series import Samples
from loratwin.telemetry import GpuSampler, gpu_name, read_journal
from tests.processes import until


class NVMLError(Exception):
    pass


class Nvml:
    """Two GPUs; `lost` ones answer nothing, `lacking` functions are not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NVMLError

    def __init__(self, number: int = 2, driver: bool = True) -> None:
        self.number, self.driver, self.started = number, driver, 0
        self.lost: set[int] = set()
        self.lacking: set[str] = set()

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.number

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, gpu: int) -> str | bytes:
        return f"NVIDIA Test {gpu}" if gpu else b"NVIDIA Test 0"  # old bindings give bytes

    def _answer(self, name: str, gpu: int, value: Any) -> Any:
        if gpu in self.lost or name in self.lacking:
            raise NVMLError("GPU is lost")
        return value

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        return self._answer("utilisation", gpu, SimpleNamespace(gpu=75, memory=3))

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return self._answer("memory", gpu, SimpleNamespace(used=2**36 + gpu))

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> Any:
        return self._answer("power", gpu, 312_500)

    def nvmlDeviceGetClockInfo(self, gpu: int, which: int) -> Any:
        return self._answer("clock", gpu, {1: 1980, 2: 2619}[which])

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> Any:
        return self._answer("temperature", gpu, 61)


def all_of(sampler: GpuSampler) -> Samples:
    samples = sampler.samples(0.0, 0.0, np.inf)
    assert samples is not None
    return samples


def test_all_quantities_of_all_gpus(tmp_path: Path) -> None:
    nvml = Nvml()
    with GpuSampler(0.02, tmp_path / "journal", nvml=nvml) as sampler:
        until(lambda: len(all_of(sampler).time_s) >= 3)
    samples = all_of(sampler)
    for gpu in "0", "1":
        found = {one.name: one.values[0] for one in samples.series if ("gpu", gpu) in one.labels}
        assert found == {
            "utilisation": 0.75,
            "memory_used_bytes": 2**36 + int(gpu),
            "power_w": 312.5,
            "sm_clock_mhz": 1980,
            "memory_clock_mhz": 2619,
            "temperature_c": 61,
        }
    assert samples.source == "gpu" and len(samples.find("power_w", gpu_name="NVIDIA Test 1")) == 1
    assert nvml.started == 0
    again = read_journal(tmp_path / "journal")
    assert again is not None and again.time_s.tolist() == samples.time_s.tolist() and again.source == "gpu"


def test_a_gpu_that_falls_off_is_nan() -> None:
    nvml = Nvml()
    with GpuSampler(0.02, nvml=nvml) as sampler:
        until(lambda: len(all_of(sampler).time_s) >= 3)
        nvml.lost.add(1)
        until(lambda: [one.values[-1] == 312.5 for one in all_of(sampler).find("power_w")] == [True, False])
    (well,), (lost,) = all_of(sampler).find("power_w", gpu="0"), all_of(sampler).find("power_w", gpu="1")
    assert lost.values[0] == 312.5 and np.isnan(lost.values[-1]) and np.nanmax(well.values) == 312.5


def test_what_a_gpu_does_not_support_has_no_series() -> None:
    nvml = Nvml(number=1)
    nvml.lacking.add("power")
    with GpuSampler(0.02, nvml=nvml) as sampler:
        until(lambda: len(all_of(sampler).time_s) >= 2)
    assert all_of(sampler).find("power_w") == () and len(all_of(sampler).series) == 5


@pytest.mark.parametrize("nvml", [Nvml(number=0), Nvml(driver=False)])
def test_no_gpu_is_none(tmp_path: Path, nvml: Nvml) -> None:
    with GpuSampler(0.02, tmp_path / "journal", nvml=nvml) as sampler:
        assert sampler.samples(0.0, 0.0, np.inf) is None
    assert not (tmp_path / "journal").exists()
    assert gpu_name(nvml) == "" and nvml.started == 0


def test_the_first_gpu_is_named() -> None:
    assert gpu_name(Nvml()) == "NVIDIA Test 0"


def test_no_binding_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with GpuSampler() as sampler:
        assert sampler.samples(0.0, 0.0, np.inf) is None
    assert gpu_name() == ""


def test_the_real_binding() -> None:
    """Where there is a driver, its GPUs have names and series; where there is none, there is nothing."""
    pynvml = pytest.importorskip("pynvml")
    with GpuSampler(0.02) as sampler:
        samples = sampler.samples(0.0, 0.0, np.inf)
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            assert samples is None and gpu_name() == ""
        else:
            until(lambda: len(all_of(sampler).series) > 0)
            assert gpu_name() != ""
            pynvml.nvmlShutdown()


def test_a_period_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="0.01 s or more"):
        GpuSampler(0.0)
