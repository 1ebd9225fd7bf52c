"""Micro measurements: which steps they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.calibrate.published.micro import MicroPoint, read_micro
from loratwin.errors import DataError, InputError
from tests.calibrate.measured import LLAMA, QWEN, write_csv

PROMPTS = {"model": LLAMA.name, "kind": "input", "num_prompts": "4096", "input_tokens": "100", "output_tokens": "1",
           "mean_running": "0.9", "step_median_ms": "50"}  # fmt: skip
DECODE = {**PROMPTS, "kind": "output", "input_tokens": "1", "output_tokens": "100", "mean_running": "64",
          "step_median_ms": "15"}  # fmt: skip
ADAPTERS = {"model": LLAMA.name, "kind": "lora", "served_adapters": "4", "max_num_seqs": "2", "max_loras": "300",
            "max_lora_rank": "8", "output_tokens": "200", "median_itl_ms": "40"}  # fmt: skip


def points(folder: Path, backbone: list[dict[str, str]], adapters: list[dict[str, str]]) -> list[MicroPoint]:
    write_csv(folder / "backbone_latency.csv", backbone)
    write_csv(folder / "adapter_overhead.csv", adapters)
    return read_micro(folder, LLAMA.name)


def test_steps_full_of_prompts(tmp_path: Path) -> None:
    p = points(tmp_path, [PROMPTS], [{**ADAPTERS, "model": "other"}])
    assert [(x.kind, x.step_s, x.prefill_tokens, x.running) for x in p] == [("prompts", 0.05, 2048, 20.48)]
    assert (p[0].decode_requests, p[0].prefill_context, p[0].max_loras) == (0, 2048 * 50, 0)


def test_fewer_prompts_than_a_step_holds(tmp_path: Path) -> None:
    p = points(tmp_path, [{**PROMPTS, "num_prompts": "3"}], [ADAPTERS])[0]
    assert (p.prefill_tokens, p.running) == (300, 3)


def test_steps_that_decode(tmp_path: Path) -> None:
    p = points(tmp_path, [DECODE], [ADAPTERS])[0]
    assert (p.kind, p.step_s, p.decode_requests, p.running, p.prefill_tokens) == ("decode", 0.015, 64, 64, 0)
    assert p.decode_context == 64 * 51  # the prompt's token and half of the output


def test_steps_with_adapters(tmp_path: Path) -> None:
    p = points(tmp_path, [DECODE], [ADAPTERS])[1]
    assert (p.kind, p.step_s, p.max_loras, p.max_lora_rank, p.decode_requests) == ("adapters", 0.04, 300, 8, 2)
    assert p.distinct_adapters == pytest.approx(1.75)  # two draws out of four: 1 x 1/4 + 2 x 3/4


def test_what_is_not_used(tmp_path: Path) -> None:
    found = points(
        tmp_path,
        [DECODE, {**DECODE, "model": QWEN.name}, {**DECODE, "step_median_ms": ""}, {**DECODE, "step_median_ms": "0"}],
        [ADAPTERS, {**ADAPTERS, "kind": "no_lora"}, {**ADAPTERS, "kind": "max_batch"},
         {**ADAPTERS, "model": QWEN.name}],
    )  # fmt: skip
    assert [p.kind for p in found] == ["decode", "adapters"]


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone_latency\.csv"):
        read_micro(tmp_path, LLAMA.name)


@pytest.mark.parametrize("column", PROMPTS)
def test_every_column_of_the_backbone_is_needed(column: str, tmp_path: Path) -> None:
    rows = [{k: v for k, v in r.items() if k != column} for r in (PROMPTS, DECODE)]
    with pytest.raises(DataError, match=f"backbone_latency.csv: column '{column}' is missing"):
        points(tmp_path, rows, [ADAPTERS])


@pytest.mark.parametrize("column", ADAPTERS)
def test_every_column_of_the_adapters_is_needed(column: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"adapter_overhead.csv: column '{column}' is missing"):
        points(tmp_path, [DECODE], [{k: v for k, v in ADAPTERS.items() if k != column}])
