"""Published tables without the published ones: made by known servers of both LLMs, with noise; what comes out is known.

The commands are run as a user runs them; their figures are compared with those of the servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.fit import fit_tables
from loratwin.llms import LlmShapes
from loratwin.metrics import summarize
from loratwin.perf import Profile, load_profile
from loratwin.perf.compare import decode_step_s
from loratwin.records import EngineConfig
from loratwin.simulate import served_capacity, simulate
from loratwin.validate import crossval, predict_all
from tests.calibrate.known_server import Noise, known_server, write_noisy_tables
from tests.calibrate.measured import FIGURES, LLAMA, QWEN, measured, row, serving_runs
from tests.cli.program import loratwin
from tests.slow import SLOW

LLMS = [LLAMA, QWEN] if SLOW else [LLAMA]
EACH_LLM = pytest.mark.parametrize("llm", LLMS, ids=[llm.name for llm in LLMS])
TRUTH = {llm.name: known_server(llm) for llm in LLMS}
WORKLOADS = [(0.05, "8"), (0.1, "8 16"), (0.2, "16"), (0.5, "16")]
NOISE = 0.01
BATCHES_AND_SLOTS = [(1, 0), (32, 0), (256, 0), (32, 8)]  # as in the tables: few adapters in a step


@pytest.fixture(scope="module", autouse=True)
def _llms() -> Iterator[None]:
    """The tables of every day are of one LLM; with LORATWIN_SLOW=1 of both that the published ones are of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossval, "SHAPES", tuple(LLMS))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy_tables(tmp_path_factory.mktemp("data"), list(TRUTH.values()), WORKLOADS, NOISE)


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    """By LLM: what `calibrate fit` made of the tables."""
    folder = tmp_path_factory.mktemp("profiles")
    done = loratwin("calibrate", "fit", str(data), "-o", str(folder), "--processes", "1")
    assert done.returncode == 0, done.stderr
    profiles = [load_profile(line) for line in done.stdout.splitlines()]
    assert {path.name for path in folder.iterdir()} == {Path(line).name for line in done.stdout.splitlines()}
    return {profile.llm.name: profile for profile in profiles}


@EACH_LLM
def test_steps_take_what_they_take_on_the_known_server(fitted: dict[str, Profile], llm: LlmShapes) -> None:
    profile, truth = fitted[llm.name], TRUTH[llm.name]
    assert profile.llm == llm and profile.engine == "vllm-0.8.5"
    for batch, slots in BATCHES_AND_SLOTS:
        assert decode_step_s(profile, batch, slots) == pytest.approx(decode_step_s(truth, batch, slots), rel=0.03)


@EACH_LLM
def test_the_stated_errors_are_not_too_small(fitted: dict[str, Profile], llm: LlmShapes) -> None:
    rng = np.random.default_rng(0)
    plausible = [fitted[llm.name].sample(rng) for _ in range(60)]
    for batch, slots in BATCHES_AND_SLOTS:
        drawn = np.array([decode_step_s(profile, batch, slots) for profile in plausible])
        off = abs(decode_step_s(TRUTH[llm.name], batch, slots) - np.median(drawn))
        assert off < 4 * drawn.std(), (batch, slots)
        assert drawn.std() < 0.25 * np.median(drawn)


@EACH_LLM
def test_memory_and_loading_are_those_of_the_known_server(fitted: dict[str, Profile], llm: LlmShapes) -> None:
    profile, truth = fitted[llm.name], TRUTH[llm.name]
    for slots, rank in [(8, 8), (48, 16), (200, 16), (384, 32)]:
        config = EngineConfig(max_loras=slots, max_lora_rank=rank, max_num_seqs=2048)
        said, true = served_capacity(profile, config), served_capacity(truth, config)
        assert said.starts == true.starts and said.tokens == pytest.approx(true.tokens, rel=1e-3)
    loading = profile.loading
    assert (loading.swap_in_s, loading.swap_in_padded_s) == pytest.approx((0.005, 0.006), rel=3 * NOISE)
    assert loading.disk_load_s + 8 * loading.disk_load_per_rank_s == pytest.approx(0.058, rel=3 * NOISE)
    assert profile.frontend.overhead_s == pytest.approx(truth.frontend.overhead_s, abs=0.006)
    assert profile.frontend.generated_share == pytest.approx(truth.frontend.generated_share, rel=0.03)


@EACH_LLM
@pytest.mark.parametrize(("rate", "slots", "served"), [(0.08, 32, 48), (0.3, 64, 96)])
def test_unseen_workloads_are_predicted(
    fitted: dict[str, Profile], llm: LlmShapes, rate: float, slots: int, served: int, tmp_path: Path
) -> None:
    [run] = serving_runs(tmp_path, row(model=llm.name, rate=rate, slots=slots, served=served, window_s=300))
    truth, profile = TRUTH[llm.name], fitted[llm.name]
    workload = run.workload(truth.frontend.generated_share)
    true, said = (summarize(simulate(workload, each, run.config), percentiles=False) for each in (truth, profile))
    assert said.total_throughput == pytest.approx(true.total_throughput, rel=0.04)
    assert said.itl_mean_ms == pytest.approx(true.itl_mean_ms, rel=0.06)
    assert said.starved == true.starved


@EACH_LLM
def test_the_card_says_how_far_off_held_out_workloads_were(fitted: dict[str, Profile], llm: LlmShapes) -> None:
    card = fitted[llm.name].card
    assert card.fitted_on.startswith("12 of 12 serving runs of an hour (4 workloads), 15 micro measurements")
    mape = {name: float(re.findall(r"MAPE ([\d.]+) %", said)[0]) for name, said in card.held_out_error.items()}
    assert 100 * NOISE / 4 < mape["total_throughput, all"] < 6 and 100 * NOISE / 4 < mape["tpot_mean_ms, all"] < 8
    assert all(said.endswith("(12 runs)") for name, said in card.held_out_error.items() if name.endswith(", all"))


@EACH_LLM
def test_the_micro_measurements_alone_tell_steps_without_adapters(data: Path, llm: LlmShapes) -> None:
    """Slots did not vary in them, so that their cost cannot be told from that of LoRA as such."""
    fit = fit_tables(data, llm, processes=1, only=())
    for batch in (1, 64, 256):
        true = decode_step_s(TRUTH[llm.name], batch, 0)
        assert decode_step_s(fit.profile, batch, 0) == pytest.approx(true, rel=4 * NOISE)
    model = fit.profile.step_time
    assert model.adapter_s > 0 and sum(getattr(model, name) > 0 for name in ("lora_s", "slot_s")) == 1


def cells(text: str, *first: str) -> list[str]:
    """The cells of the first row of a Markdown table that begins with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return next(row for row in rows if row[: len(first)] == list(first))


def test_the_report_of_a_validation(data: Path, tmp_path: Path) -> None:
    done = loratwin("validate", "report", str(data), "-o", str(tmp_path), "--processes", "1")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.md").read_text()
    num_runs = 12 * len(LLMS)
    assert (
        f"{num_runs} one-hour runs, every workload (rates and ranks) predicted by a profile fitted without it" in text
    )
    assert re.search(rf"for {num_runs} servers: mean absolute error 0\.0\d %, worst 0\.\d\d %", text)
    for metric, most in (("throughput", 6.0), ("ITL, mean", 8.0), ("TPOT, mean", 8.0)):
        runs, mape = cells(text, metric, "all")[2:4]
        assert runs == f"{num_runs}" and 100 * NOISE / 4 < float(mape.removesuffix(" %")) < most
    assert cells(text, "starts") == ["starts", f"{num_runs}", f"{2 * len(LLMS)}", "0", "0"]
    found, _, missed, false_alarms = map(int, cells(text, "starved")[1:])
    assert found >= 2 * len(LLMS) and missed + false_alarms <= len(LLMS)
    assert (tmp_path / "report.html").read_text().count("<svg") >= 3


@EACH_LLM
def test_servers_that_are_as_the_shipped_profile_says_are_predicted_with_it(llm: LlmShapes, tmp_path: Path) -> None:
    truth, noise = load_profile(f"h100-64gb/vllm-0.8.5/{llm.name}"), Noise(NOISE)
    wanted = [
        row(f"{rate}/{slots}", model=llm.name, rate=rate, slots=slots, served=served, window_s=600)
        for rate, slots, served in [(0.05, 16, 32), (0.1, 32, 32), (0.15, 48, 48), (0.2, 48, 64)]
    ]
    rows = [noise.on(measured(tmp_path, values, truth, seed=5), FIGURES) for values in wanted]
    runs = serving_runs(tmp_path, *rows)
    for run, said in zip(runs, predict_all(runs), strict=True):
        total = run.figure("input_throughput") + run.figure("output_throughput")
        assert said.total_throughput == pytest.approx(total, rel=0.06)
        assert said.tpot_mean_ms == pytest.approx(run.figure("tpot_mean_ms"), rel=0.04)
        assert said.kv_tokens == pytest.approx(run.figure("kv_tokens"), rel=1e-9)
