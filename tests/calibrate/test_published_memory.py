"""Memory and loading from their tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.calibrate.published.memory_and_loading import fit_loading, fit_memory
from loratwin.calibrate.published.start import SHAPES, starting_profile
from loratwin.calibrate.published.tables import number, read_table
from loratwin.errors import DataError, InputError
from loratwin.llms import LlmShapes
from loratwin.perf import MemoryModel, kv_capacity
from loratwin.records import EngineConfig
from tests.calibrate.measured import DATA, LLAMA, QWEN, needs_data, write_csv

START = starting_profile(LLAMA).memory


def config(slots: int, rank: int) -> EngineConfig:
    return EngineConfig(max_loras=slots, max_lora_rank=rank, max_num_seqs=2048, max_num_batched_tokens=2048)


def capacity_rows(llm: LlmShapes, truth: MemoryModel) -> list[dict[str, str]]:
    """Starts of servers that have this memory, the last of which does not."""
    rows = []
    for slots, rank in [(8, 8), (32, 16), (64, 8), (128, 16), (16, 32), (384, 32)]:
        capacity = kv_capacity(llm, truth, config(slots, rank))
        outcome = {"outcome": "ok", "kv_tokens": str(capacity.tokens)}
        rows.append({"model": llm.name, "max_loras": str(slots), "max_lora_rank": str(rank),
                     **(outcome if capacity.starts else {"outcome": "out_of_memory", "kv_tokens": ""})})  # fmt: skip
    return rows


def capacities(folder: Path, truth: MemoryModel, *more: dict[str, str]) -> Path:
    """The table of a server that has this memory."""
    write_csv(folder / "kv_capacity.csv", [*capacity_rows(LLAMA, truth), *more])
    return folder


@pytest.mark.parametrize("other_gib", [0.2, 1.3])
def test_the_one_constant_is_found(other_gib: float, tmp_path: Path) -> None:
    truth = START.model_copy(update={"other_gib": other_gib})
    block_gib = 16 * LLAMA.kv_bytes_per_token / (1 << 30)
    assert fit_memory(capacities(tmp_path, truth), LLAMA, START).other_gib == pytest.approx(other_gib, abs=block_gib)


def test_other_llms_failures_and_one_wrong_row_do_not_count(tmp_path: Path) -> None:
    truth = START.model_copy(update={"other_gib": 1.3})
    expected = fit_memory(capacities(tmp_path, truth), LLAMA, START)
    like = {"max_loras": "8", "max_lora_rank": "8", "outcome": "ok"}
    others = [{**like, "model": QWEN.name, "kv_tokens": "100000"}] * 9
    failed = [{**like, "model": LLAMA.name, "kv_tokens": "", "outcome": "out_of_memory"}] * 9
    assert fit_memory(capacities(tmp_path, truth, *others, *failed), LLAMA, START) == expected
    wrong = {**like, "model": LLAMA.name, "kv_tokens": "5000"}
    assert fit_memory(capacities(tmp_path, truth, wrong), LLAMA, START).other_gib == pytest.approx(1.3, abs=0.01)


def loading_row(rank: int, slot_rank: int, disk_ms: float, swap_ms: float, model: str = LLAMA.name) -> dict[str, str]:
    values = {"model": model, "adapter_rank": rank, "max_lora_rank": slot_rank, "disk_load_median_ms": disk_ms,
              "gpu_load_mean_ms": swap_ms}  # fmt: skip
    return {k: str(v) for k, v in values.items()}


def test_loading(tmp_path: Path) -> None:
    rows = [
        loading_row(8, 8, 60 + 8 * 2, 6.0),
        loading_row(16, 16, 60 + 16 * 2, 7.0),
        loading_row(8, 32, 60 + 8 * 2, 9.0),
        loading_row(16, 32, 60 + 16 * 2, 10.0),
        loading_row(16, 32, 999, 999, model=QWEN.name),
    ]
    write_csv(tmp_path / "adapter_loading.csv", rows)
    found = fit_loading(tmp_path, LLAMA.name)
    assert found.swap_in_s == pytest.approx(0.0065)
    assert found.swap_in_padded_s == pytest.approx(0.0095)
    assert found.disk_load_s == pytest.approx(0.060)
    assert found.disk_load_per_rank_s == pytest.approx(0.002)


def test_disk_loads_that_get_faster_with_the_rank_are_no_negative_cost(tmp_path: Path) -> None:
    rows = [loading_row(8, 8, 90, 6), loading_row(16, 16, 80, 6), loading_row(8, 16, 90, 7)]
    write_csv(tmp_path / "adapter_loading.csv", rows)
    assert fit_loading(tmp_path, LLAMA.name).disk_load_per_rank_s == 0


def test_a_table_without_the_llm_is_one_clear_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "adapter_loading.csv", [loading_row(8, 8, 60, 6)])
    with pytest.raises(DataError, match=f"adapter_loading.csv: .*{QWEN.name}"):
        fit_loading(tmp_path, QWEN.name)
    with pytest.raises(DataError, match=f"kv_capacity.csv: .*{QWEN.name}"):
        fit_memory(capacities(tmp_path, START), QWEN, START)


def test_adapters_of_one_kind_only_are_one_clear_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "adapter_loading.csv", [loading_row(8, 8, 60, 6), loading_row(16, 16, 70, 6)])
    with pytest.raises(DataError, match="adapter_loading.csv: .*below max_lora_rank"):
        fit_loading(tmp_path, LLAMA.name)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kv_capacity\.csv"):
        fit_memory(tmp_path, LLAMA, START)
    with pytest.raises(InputError, match=r"adapter_loading\.csv"):
        fit_loading(tmp_path, LLAMA.name)


@needs_data
@pytest.mark.parametrize("llm", SHAPES, ids=lambda llm: llm.name)
def test_every_measured_start_is_predicted(llm: LlmShapes) -> None:
    memory = fit_memory(DATA, llm, starting_profile(llm).memory)
    rows = [row for row in read_table(DATA / "kv_capacity.csv", ["outcome"]) if row["model"] == llm.name]
    assert len(rows) > 20
    for row in rows:
        predicted = kv_capacity(llm, memory, config(int(number(row, "max_loras")), int(number(row, "max_lora_rank"))))
        assert predicted.starts == (row["outcome"] == "ok"), row
        if row["outcome"] == "ok":
            assert predicted.tokens == pytest.approx(number(row, "kv_tokens"), rel=0.002), row


@needs_data
@pytest.mark.parametrize("llm", SHAPES, ids=lambda llm: llm.name)
def test_measured_loading_times_are_plausible(llm: LlmShapes) -> None:
    found = fit_loading(DATA, llm.name)
    assert 0.002 < found.swap_in_s < found.swap_in_padded_s < 0.02
    assert 0.005 < found.disk_load_s + 8 * found.disk_load_per_rank_s < 0.2
