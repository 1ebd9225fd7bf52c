"""Predictions: the file's columns, from configuration columns only, whatever the number of processes."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.calibrate.published.serving import CONFIGURATION, ServingRun, profile_for, read_serving
from loratwin.errors import DataError
from loratwin.metrics import Summary, summarize
from loratwin.perf import kv_capacity
from loratwin.simulate.observe import observe
from loratwin.validate import Prediction, predict, predict_all, predictions_csv
from loratwin.validate.predict import _draw_correction, offered_tokens_per_s
from tests.calibrate.measured import DATA, HEADER, LLAMA, QWEN, by_hand, needs_data, row, serving_runs, simulated

COLUMNS = (
    "run,total_throughput,input_throughput,output_throughput,itl_mean_ms,tpot_mean_ms,ttft_mean_ms,ttft_median_ms,"
    "running_mean,kv_tokens,starts,starved"
)
TOO_MANY_SLOTS = {"slots": 384, "served": 384, "max_lora_rank": 32}
NO_WORKLOAD = {"adapter_rate_values": "", "adapter_rate_counts": "", "prompt_tokens_mean": "", "output_tokens_mean": ""}


def cells(predictions: list[Prediction]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(predictions_csv(predictions))))


def test_the_columns(tmp_path: Path) -> None:
    text = predictions_csv(predict_all(serving_runs(tmp_path, row("a"), row("b"))))
    header, *lines = text.split("\n")
    assert header == COLUMNS
    assert [line.split(",")[0] for line in lines] == ["a", "b", ""]


def test_figures_are_the_simulations(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row(rate=0.05, window_s=300))
    profile, found = profile_for(run.model), predict(run)
    twin = simulated(run, profile)
    seen, summary = observe(twin, profile.frontend), summarize(twin, percentiles=False)
    assert found.total_throughput == found.input_throughput + found.output_throughput
    assert found.total_throughput == pytest.approx(summary.total_throughput, rel=0.2)
    assert found.itl_mean_ms == seen.itl_mean_s * 1e3
    assert found.tpot_mean_ms == seen.tpot_mean_s * 1e3
    assert found.ttft_mean_ms == seen.ttft_mean_s * 1e3
    assert found.ttft_median_ms == seen.ttft_median_s * 1e3
    assert found.running_mean == summary.running_mean
    assert found.kv_tokens == kv_capacity(profile.llm, profile.memory, run.config).tokens
    assert (found.starts, found.starved) == (1, 0)


def test_written_figures_are_the_predicted(tmp_path: Path) -> None:
    found = predict_all(serving_runs(tmp_path, row()))
    [written] = cells(found)
    for name, value in vars(found[0]).items():
        assert written[name] == value if name == "run" else float(written[name]) == pytest.approx(value, rel=1e-5)
    assert written["kv_tokens"] == str(found[0].kv_tokens)


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    alone, full = predict_all(
        serving_runs(tmp_path, row("alone", **TOO_MANY_SLOTS, **NO_WORKLOAD), row("full", **TOO_MANY_SLOTS))
    )
    assert alone.kv_tokens == full.kv_tokens
    for written in cells([alone, full]):
        assert written["starts"] == written["starved"] == "0"
        assert written["kv_tokens"].isdigit()
        assert {written[c] for c in COLUMNS.split(",")[1:9]} == {""}


def test_a_server_that_starts_but_whose_workload_is_unknown(tmp_path: Path) -> None:
    known, unknown = predict_all(serving_runs(tmp_path, row("known"), row("unknown", **NO_WORKLOAD)))
    assert unknown.kv_tokens == known.kv_tokens > 0
    assert unknown.starts == 1
    assert math.isnan(unknown.total_throughput)


def test_overload_is_starved(tmp_path: Path) -> None:
    light, heavy = predict_all(serving_runs(tmp_path, row(rate=0.05), row(rate=4)))
    assert (light.starved, heavy.starved) == (0, 1)


def mixed_rows() -> list[dict[str, str]]:
    return [
        row("a", rate=0.2),
        row("b", rate=1.5, slots=8),
        row("c", model=QWEN.name, rate=0.3),
        row("d", **TOO_MANY_SLOTS, **NO_WORKLOAD),
        row("e", rate=0.2, slots=32),
    ]


def test_nothing_measured_is_read(tmp_path: Path) -> None:
    """Neither figures nor `kv_tokens` nor `outcome`; absent or scrambled, the file is the same."""
    rows = mixed_rows()
    kept = {*CONFIGURATION, "window_s", "rates"}
    noise = {column: str(3.7 + i) for i, column in enumerate(HEADER) if column not in kept}
    assert "kv_tokens" in noise and "outcome" in noise
    texts = [
        predictions_csv(predict_all(serving_runs(tmp_path, *variant)))
        for variant in (
            [by_hand(r, 1234.5, kv_tokens=99999, tpot_mean_ms=50) for r in rows],
            [{**r, **noise} for r in rows],
            [{c: v for c, v in r.items() if c in kept} for r in rows],
        )
    ]
    assert texts[0] == texts[1] == texts[2]


def test_predictions_depend_on_the_configuration(tmp_path: Path) -> None:
    found = predict_all(
        serving_runs(tmp_path, row(), row(slots=64), row(max_lora_rank=32), row(served=48), row(model=QWEN.name))
    )
    assert len({p.tpot_mean_ms for p in found}) == 5
    assert len({p.kv_tokens for p in found}) == 4  # served adapters take no GPU memory


def test_the_order_and_the_number_of_processes_change_nothing(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, *mixed_rows())
    one, two, backwards = predict_all(runs), predict_all(runs, processes=2), predict_all(runs[::-1])
    assert predictions_csv(one) == predictions_csv(two) == predictions_csv(backwards[::-1])
    assert [p.run for p in one] == list("abcde")


def test_figures_are_means_over_seeds(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row())
    first, second, both = predict(run, seeds=(0,)), predict(run, seeds=(1,)), predict(run, seeds=(0, 1))
    assert first.tpot_mean_ms != second.tpot_mean_ms
    for name in ("total_throughput", "tpot_mean_ms", "ttft_median_ms", "running_mean"):
        assert getattr(both, name) == pytest.approx((getattr(first, name) + getattr(second, name)) / 2)


def test_another_profile_than_the_shipped(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, row("llama"), row("qwen", model=QWEN.name))
    shipped = profile_for(LLAMA.name)
    slow = shipped.model_copy(update={"step_time": shipped.step_time.scaled(2)})
    plain, changed = predict_all(runs), predict_all(runs, profiles={LLAMA.name: slow})
    assert changed[0].tpot_mean_ms > 1.5 * plain[0].tpot_mean_ms
    assert changed[1] == plain[1]


def test_an_unknown_model_is_one_clear_line(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, row(), row(model="gpt-2"))
    with pytest.raises(DataError, match="^model 'gpt-2': no profile ships for it; known: llama.*qwen.*$") as caught:
        predict_all(runs)
    assert "\n" not in str(caught.value)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    predict_all(serving_runs(tmp_path, row("a"), row("b")), progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_offered_tokens(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row(adapter_rate_values="0.1 0.4", adapter_rate_counts="20 12"))
    assert offered_tokens_per_s(run) == pytest.approx((20 * 0.1 + 12 * 0.4) * 420)


def summary_with(run: ServingRun, share: float) -> Summary:
    return replace(summarize(simulated(run), percentiles=False), served_share=share)


def test_a_draw_is_corrected_where_the_server_keeps_up(tmp_path: Path) -> None:
    """Expected over drawn tokens, fading out between 97 % and 90 % of the offered tokens served."""
    [run] = serving_runs(tmp_path, row(rate=0.02, window_s=100))
    drawn = run.workload(1.0).prompt_tokens
    full = run.sent_per_s * 100 * 220 / drawn.sum()
    assert abs(full - 1) > 0.01
    expected = {1.0: full, 0.97: full, 0.935: 1 + (full - 1) / 2, 0.9: 1.0, 0.5: 1.0}
    for share, correction in expected.items():
        assert _draw_correction(220, run, drawn, summary_with(run, share)) == pytest.approx(correction), share


def test_light_load_is_predicted_as_expected_and_not_as_drawn(tmp_path: Path) -> None:
    """Two draws of a short window differ by several per cent; their predictions by what the window's end cuts off."""
    [run] = serving_runs(tmp_path, row(rate=0.02, window_s=600))
    drawn = [summarize(simulated(run, seed=s), percentiles=False).total_throughput for s in range(6)]
    predicted = [predict(run, seeds=(s,)).total_throughput for s in range(6)]
    assert (max(predicted) - min(predicted)) < 0.3 * (max(drawn) - min(drawn))
    share = profile_for(run.model).frontend.generated_share
    assert sum(predicted) / 6 == pytest.approx(run.sent_per_s * (220 + 200 * share), rel=0.03)


@needs_data
@pytest.mark.parametrize("model", [LLAMA.name, QWEN.name])
def test_measured_runs_are_predicted(model: str) -> None:
    runs = [r for name in ("validation", "optimum") for r in read_serving(DATA / f"serving_{name}.csv")]
    mine = [r for r in runs if r.model == model]
    light = [r for r in mine if r.measured and r.figure("waiting_mean") < 5 and r.total_rate < 12]
    failed = [r for r in mine if r.row["outcome"] == "out_of_memory"]
    chosen = light[:: len(light) // 5][:5] + failed[:: max(1, len(failed) // 3)][:3]
    assert len(chosen) >= 6
    for run, found in zip(chosen, predict_all(chosen), strict=True):
        assert found.starts == run.measured, run.name
        if run.measured:
            throughput = run.figure("input_throughput") + run.figure("output_throughput")
            assert found.total_throughput == pytest.approx(throughput, rel=0.06), run.name
            assert found.kv_tokens == pytest.approx(run.figure("kv_tokens"), rel=0.005), run.name
