"""Importers: kernels by class and phase with figures computed by hand; every damaged file one clear line."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from loratwin.cli.app import app
from loratwin.errors import DataError
from loratwin.gpu_traces import ClassFigures, by_class, by_kernel, kernel_class, read_trace
from loratwin.gpu_traces.phases import PhaseInterval, RangePhase, phases_at, range_phase
from loratwin.perf import find_gpu
from loratwin.report.kernels import roofline_chart, share_chart
from tests.cli.terminal import faults
from tests.gpu_traces.exports import Launch, Marked, chrome_trace, event, ncu_details, ncu_raw, nsys_export

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
FLASH = "void flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4>>(Flash_fwd_params)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (FLASH, "attention"),
        ("kernel_unified_attention_2d", "attention"),
        ("void vllm::paged_attention_v2_kernel<__nv_bfloat16, 128, 16, 128>", "attention"),
        ("BatchDecodeWithPagedKVCacheKernel", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", "attention"),
        (GEMM, "matmul"),
        ("nvjet_tst_128x8_64x12_2x1_v_bz_TNT", "matmul"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "matmul"),
        ("aten::addmm", "matmul"),
        ("_lora_shrink_kernel", "LoRA shrink"),
        ("_lora_expand_kernel", "LoRA expand"),
        ("void bgmv_shrink_kernel", "LoRA shrink"),
        ("_qkv_lora_b_kernel", "LoRA expand"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096>)", "communication"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>", "communication"),
        (
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float>>>",
            "sampling",
        ),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, float>", "sampling"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "other"),
        ("void vllm::rms_norm_kernel<c10::BFloat16>", "other"),
        ("void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel>", "other"),
    ],
)
def test_classes_by_name(name: str, expected: str) -> None:
    assert kernel_class(name) == expected


def test_what_a_range_tells() -> None:
    assert range_phase("decode batch=32 adapters=4") == RangePhase("decode", 32)
    assert range_phase("Prefill") == RangePhase("prefill", 0)
    assert range_phase("predecoder") is None and range_phase("execute_model") is None


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8), st.lists(st.integers(0, 99), min_size=1)
)
def test_the_innermost_range_against_a_literal_search(cuts: list[tuple[int, int]], times: list[int]) -> None:
    """Ranges within each other, as of one thread: each of them inside all that are open when it begins."""
    ranges: list[PhaseInterval] = []
    for number, (start, length) in enumerate(sorted(cuts)):
        end = min([start + length, *(one.end for one in ranges if one.start <= start < one.end)])
        ranges.append(PhaseInterval(start, end, RangePhase("decode", number + 1)))
    told, index = phases_at(ranges, np.array(times, float))
    for time, found in zip(times, index, strict=True):
        around = [one for one in ranges if one.start <= time <= one.end]
        batch = told[found].batch
        assert bool(batch) == bool(around)
        if around:
            assert batch in {one.phase.batch for one in around if one.start == max(each.start for each in around)}


LAUNCHES = [
    Launch(GEMM, 5, 100, 160),  # called within prefill, runs when the range is over
    Launch(FLASH, 15, 160, 180),
    Launch(GEMM, 40, 200, 210),
    Launch(FLASH, 45, 210, 240),
    Launch("_lora_shrink_kernel", 50, 240, 245),
    Launch("rms_norm_kernel", 90, 250, 251),  # in no range
]
RANGES = [Marked("prefill", 0, 30), Marked("decode", 31, 80), Marked("step 1: decode batch=8 adapters=2", 35, 60)]


def figures(rows: list[ClassFigures], name: str, phase: str = "") -> ClassFigures:
    (row,) = [row for row in rows if row.name == name and row.phase == phase]
    return row


@pytest.mark.parametrize("old", [False, True])
def test_kernels_of_nsys_belong_to_the_range_that_called_them(tmp_path: Path, old: bool) -> None:
    """By the tool's documented tables."""
    rows = by_class([trace := read_trace(nsys_export(tmp_path / "a.sqlite", LAUNCHES, RANGES, old=old))])
    assert trace.gpu == "NVIDIA H100 80GB HBM3" and "3.11.0" in trace.source
    assert figures(rows, "matmul", "prefill").seconds == pytest.approx(60e-6)
    assert figures(rows, "matmul", "prefill").share == pytest.approx(60 / 80)
    attention = figures(rows, "attention", "decode")
    assert (attention.batch, attention.launches, attention.share) == (8, 1, pytest.approx(30 / 45))
    assert figures(rows, "LoRA shrink", "decode").seconds == pytest.approx(5e-6)
    assert figures(rows, "other").share == 1.0
    assert np.isnan(attention.dram_busy) and np.isnan(attention.intensity)
    assert by_kernel([trace])[0].name == GEMM and by_kernel([trace])[0].seconds == pytest.approx(70e-6)


def test_without_traced_calls_the_kernels_own_time_decides(tmp_path: Path) -> None:
    ranges = [Marked("decode batch=3", 190, 246)]
    rows = by_class([read_trace(nsys_export(tmp_path / "a.sqlite", LAUNCHES, ranges, calls=False))])
    assert figures(rows, "attention", "decode").seconds == pytest.approx(30e-6)
    assert figures(rows, "attention").seconds == pytest.approx(20e-6)


RAW = {
    "gpu__time_duration.sum": ("2,000", "ns"),
    "dram__bytes_read.sum": ("3.2", "Mbyte"),
    "dram__bytes_write.sum": ("800", "Kbyte"),
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("60.5", "%"),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("30", "%"),
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": ("6", "inst"),
    "smsp__average_warp_latency_per_inst_issued.ratio": ("10", "cycle"),
    "l1tex__t_sector_hit_rate.pct": ("12", "%"),
    "lts__t_sector_hit_rate.pct": ("2", "%"),
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": ("1,000", "inst"),
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": ("500", "inst"),
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": ("3,999,250", "inst"),
    "launch__registers_per_thread": ("96", "register/thread"),
}


def test_ncu_raw_by_hand(tmp_path: Path) -> None:
    """By the tool's documented form. 4 MB in 2 us; 1,000 + 500 + 2 x 3,999,250 = 8 million operations."""
    trace = read_trace(ncu_raw(tmp_path / "a.csv", [(FLASH, "decode batch=16", RAW)]))
    (row,) = by_class([trace])
    assert (row.name, row.phase, row.batch, row.launches) == ("attention", "decode", 16, 1)
    assert row.seconds == pytest.approx(2e-6) and row.bytes_per_s == pytest.approx(2e12)
    assert row.dram_busy == pytest.approx(0.605) and row.stalled == pytest.approx(0.7)
    assert row.memory_wait == pytest.approx(0.6)
    assert (row.l1_hits, row.l2_hits) == (pytest.approx(0.12), pytest.approx(0.02))
    assert row.intensity == pytest.approx(2.0) and row.operations_per_s == pytest.approx(4e12)


def test_operations_of_tensor_cores_are_told_or_unknown(tmp_path: Path) -> None:
    """A product's other units say nothing of its tensor cores."""
    told = {**RAW, "sm__ops_path_tensor_src_bf16_dst_fp32.sum": ("40,000,000", "")}
    rows = by_class([read_trace(ncu_raw(tmp_path / "a.csv", [(GEMM, "", told)]))])
    assert rows[0].operations_per_s == pytest.approx(48e6 / 2e-6)
    rows = by_class([read_trace(ncu_raw(tmp_path / "b.csv", [(GEMM, "", RAW)]))])
    assert np.isnan(rows[0].operations_per_s)


def test_rates_of_a_roofline_are_operations(tmp_path: Path) -> None:
    """Single precision by cycle: 2 x 5 instructions a cycle x 1 GHz x 2 us."""
    rates = {
        "gpu__time_duration.sum": ("2", "us"),
        "dram__bytes.sum.per_second": ("1", "Gbyte/s"),
        "smsp__cycles_elapsed.avg.per_second": ("1", "Ghz"),
        "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum.per_cycle_elapsed": ("5", "inst/cycle"),
    }
    (row,) = by_class([read_trace(ncu_raw(tmp_path / "a.csv", [(FLASH, "", rates)]))])
    assert row.operations_per_s * 2e-6 == pytest.approx(20_000) and row.intensity == pytest.approx(20_000 / 2_000)


def test_ncu_details_by_hand(tmp_path: Path) -> None:
    """By the tool's documented form. "Memory Throughput" stands for two metrics: the unit says which."""
    metrics = [
        ("GPU Speed Of Light Throughput", "Memory Throughput", "%", "71"),
        ("GPU Speed Of Light Throughput", "DRAM Throughput", "%", "70"),
        ("GPU Speed Of Light Throughput", "Duration", "us", "4"),
        ("Memory Workload Analysis", "Memory Throughput", "Gbyte/s", "500"),
        ("Memory Workload Analysis", "L1/TEX Hit Rate", "%", "10"),
        ("Memory Workload Analysis", "L2 Hit Rate", "%", "7"),
        ("Scheduler Statistics", "No Eligible", "%", "80"),
    ]
    longer = [("GPU Speed Of Light Throughput", "Duration", "msecond", "0.012"), *metrics[1:2]]
    trace = read_trace(ncu_details(tmp_path / "a.csv", [(FLASH, "prefill", metrics), (FLASH, "prefill", longer)]))
    (row,) = by_class([trace])
    assert row.seconds == pytest.approx(16e-6) and row.phase == "prefill" and row.dram_busy == pytest.approx(0.7)
    assert row.bytes_per_s == pytest.approx(500e9) and row.stalled == pytest.approx(0.8)
    assert (row.l1_hits, row.l2_hits) == (pytest.approx(0.10), pytest.approx(0.07))


GPU_EVENTS = [
    event("user_annotation", "prefill batch=2", 0, 50),
    event("cuda_runtime", "cudaLaunchKernel", 10, 2, correlation=1),
    event("cuda_runtime", "cudaLaunchKernel", 60, 2, correlation=2),
    event("kernel", GEMM, 100, 30, correlation=1),
    event("kernel", FLASH, 130, 10, correlation=2),
    event("cpu_op", "aten::mm", 9, 5),
    {"ph": "i", "name": "an instant", "ts": 3},
]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_kernels_of_torch(tmp_path: Path, name: str) -> None:
    trace = read_trace(chrome_trace(tmp_path / name, GPU_EVENTS, gpu="NVIDIA H200"))
    rows = by_class([trace])
    assert figures(rows, "matmul", "prefill").seconds == pytest.approx(30e-6) and trace.gpu == "NVIDIA H200"
    assert figures(rows, "attention").seconds == pytest.approx(10e-6) and len(rows) == 2


def test_operators_of_a_cpu_without_those_that_they_call(tmp_path: Path) -> None:
    shapes: dict[str, Any] = {"Input Dims": [[8], [4, 16], [16, 8]], "Input type": ["float", "float", "float"]}
    events = [
        event("user_annotation", "decode batch=4", 0, 100),
        event("cpu_op", "aten::linear", 10, 40),
        event("cpu_op", "aten::addmm", 15, 30, **shapes),
        event("cpu_op", "aten::copy_", 20, 5),
        event("cpu_op", "aten::softmax", 60, 10),
    ]
    rows = by_class([read_trace(chrome_trace(tmp_path / "a.json", events))])
    matmul = figures(rows, "matmul", "decode")
    assert matmul.seconds == pytest.approx((10 + 25) * 1e-6) and matmul.batch == 4
    assert figures(rows, "other", "decode").seconds == pytest.approx(5e-6)
    assert figures(rows, "sampling", "decode").seconds == pytest.approx(10e-6)
    assert matmul.operations_per_s == pytest.approx(2 * 4 * 16 * 8 / 25e-6)
    assert matmul.intensity == pytest.approx(2 * 4 * 16 * 8 / (4 * (4 * 16 + 16 * 8 + 4 * 8)))


def no_table(path: Path) -> Path:
    return _execute(path, "DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL")


def other_version(path: Path) -> Path:
    return _execute(path, "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL RENAME COLUMN correlationId TO correlation")


def empty(path: Path) -> Path:
    return _execute(path, "DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL")


def _execute(path: Path, statement: str) -> Path:
    import sqlite3

    with sqlite3.connect(nsys_export(path, LAUNCHES)) as database:
        database.execute(statement)
    database.close()
    return path


def cut(path: Path) -> Path:
    data = nsys_export(path, LAUNCHES * 300).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_table, "no table CUPTI_ACTIVITY_KIND_KERNEL: was CUDA traced"),
        (other_version, "no column correlationId in CUPTI_ACTIVITY_KIND_KERNEL: an export of another version .*3.11.0"),
        (empty, "no kernel is in it"),
        (cut, "not a whole sqlite export"),
    ],
)
def test_damaged_exports_of_nsys(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_trace(make(tmp_path / "a.sqlite"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-40], r"line 5: \d+ of 21 columns: is the file cut short\?"),
        (lambda text: text.replace("Kernel Name", "Kernel"), "no column 'Kernel Name'"),
        (lambda text: text.replace("gpu__time_duration.sum", "gpu__time.sum"), "no gpu__time_duration"),
        (lambda text: text.replace('"3.2"', '"much"'), "dram__bytes_read.sum = 'much' is no number"),
        (lambda text: text.replace('"2,000"', '"-5"'), "a kernel's duration is no time"),
        (lambda text: "\n".join(line for line in text.splitlines() if "Mbyte" not in line), "no row of units"),
        (lambda text: "", "no column 'Kernel Name'"),
    ],
)
def test_damaged_exports_of_ncu(tmp_path: Path, change: Any, message: str) -> None:
    path = ncu_raw(tmp_path / "a.csv", [(FLASH, "", RAW)])
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        read_trace(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b'{"traceEvents": [{"ph": "X", ', "not a whole trace of torch.profiler"),
        ("a.json", b'{"events": []}', "no traceEvents"),
        ("a.json", b'{"traceEvents": []}', "neither kernels nor operators"),
        ("a.json", b'{"traceEvents": [{"ph": "X", "dur": "long", "ts": 1, "name": "a"}]}', "no time or name"),
        ("a.json.gz", b"\x1f\x8bnothing", "not a whole trace"),
        ("a.nsys-rep", b"\x00\x01", "nsys export --type sqlite"),
        ("a.ncu-rep", b"\x00\x01", "ncu --import"),
    ],
)
def test_damaged_traces(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_trace(tmp_path / name)


def test_a_trace_that_is_cut_short_and_one_that_is_not_there(tmp_path: Path) -> None:
    path = chrome_trace(tmp_path / "a.json.gz", GPU_EVENTS * 50)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a whole trace of torch.profiler"):
        read_trace(path)
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_trace(tmp_path / "nowhere")


def row(name: str, **given: Any) -> ClassFigures:
    values: dict[str, Any] = dict.fromkeys(ClassFigures.__dataclass_fields__, nan)
    values |= {"phase": "decode", "batch": 8, "launches": 1}
    return ClassFigures(**values | {"name": name, "seconds": 1.0, "share": 0.5} | given)


def test_the_charts_have_the_figures() -> None:
    rows = [
        row("attention", batch=32),
        row("attention", share=0.25),
        row("matmul", intensity=100.0, operations_per_s=2e14),
    ]
    (panel,) = share_chart(rows).panels
    assert list(panel.ticks) == ["8", "32"] and [s.name for s in panel.series] == ["attention", "matmul"]
    assert (list(panel.series[0].x), list(panel.series[0].y)) == ([1.0, 0.0], [50.0, 25.0])
    gpu = find_gpu("h100-sxm")
    roofline = roofline_chart(rows, gpu).panels[0]
    assert list(roofline.series[0].y[1:]) == pytest.approx([gpu.tflops] * 2)
    assert roofline.series[0].y[0] == pytest.approx(roofline.series[0].x[0] * gpu.memory_gb_per_s / 1e3)
    assert (list(roofline.series[1].x), list(roofline.series[1].y)) == ([100.0], [200.0])
    assert roofline_chart(rows[:1], gpu) is None


def test_the_command(tmp_path: Path) -> None:
    nsys_export(tmp_path / "a.sqlite", LAUNCHES, RANGES)
    ncu_raw(tmp_path / "b.csv", [(FLASH, "decode batch=16", RAW)])
    files = [str(tmp_path / "a.sqlite"), str(tmp_path / "b.csv")]
    run = CliRunner().invoke
    said = run(app, ["report", "kernels", *files]).output
    assert faults(said) == []
    assert "LoRA shrink" in said and "attention" in said and "waits" in said
    page, tables = tmp_path / "k.html", tmp_path / "tables"
    run(app, ["report", "kernels", *files, "-o", str(page), "--csv", str(tables)])
    text = page.read_text()
    assert (
        "Roofline of h100-sxm" in text
        and text.count("<svg") == 2
        and "http://" not in text.replace("http://www.w3", "")
    )
    assert (tables / "kernel-classes.csv").read_text().startswith("name,phase,batch,launches,time_ms,share,")
    data = json.loads(run(app, ["report", "kernels", *files, "--json"]).output)
    assert {row["name"] for row in data["classes"]} == {"attention", "matmul", "LoRA shrink", "other"}
    done = run(app, ["report", "kernels", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and done.output.startswith("error: ") and done.output.count("\n") == 1
