"""Figures of the published works: from tables, from own records; kept, refused, listed in the docs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

from loratwin.cli.app import app
from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import load_profile
from loratwin.records import save_run
from loratwin.report.charts import Chart, ChartSeries, Panel, short, write_chart
from loratwin.report.figures import CATALOGUE, FigureState, make, make_figures
from loratwin.report.figures.batch import _intensities, _parts
from loratwin.simulate import server_configs, simulate
from loratwin.workload import draw, parse_spec
from tests.gpu_traces.exports import Launch, Marked, nsys_export
from tests.markdown import ROOT
from tests.slow import SLOW, slow

MEASURED = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not MEASURED.exists(), reason="measured tables (../shared/data) are not here")
PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"

OVERHEADS = """\
group,model,dataset,max_loras,max_lora_rank,adapters_used,outcome,kv_tokens,completed,input_throughput,output_throughput,itl_mean_ms,running_mean
memory_overhead,llama-2-7b,mean,32,8,,ok,80000,10,1000,900,90,200
memory_overhead,llama-2-7b,mean,64,8,,ok,70000,10,800,700,80,150
memory_overhead,llama-2-7b,mean,96,8,,out_of_memory,,,,,,
memory_overhead,llama-2-7b,p25,32,16,,ok,80000,10,2000,1900,90,200
memory_overhead,llama-2-7b,p75,32,32,,ok,80000,10,500,400,90,200
compute_overhead,llama-2-7b,mean,100,8,0,ok,1,10,1000,900,70,100
compute_overhead,llama-2-7b,p25,100,8,4,ok,1,10,900,900,75,100
compute_overhead,llama-2-7b,p75,100,8,8,ok,1,10,900,800,80,100
"""


def values(path: Path, panel: str, series: str) -> list[tuple[float, float]]:
    """Points of a series in a chart's CSV."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["panel"] == panel and row["series"] == series]
    return [(float(row["x"]), float(row["y"])) for row in rows]


def by_name(states: list[FigureState]) -> dict[str, FigureState]:
    return {state.entry.name: state for state in states}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "llama2_7b_overheads.csv").write_text(OVERHEADS)
    return folder


def test_what_the_folder_has_is_made_and_the_rest_says_what_it_lacks(tables: Path, tmp_path: Path) -> None:
    only = ["memory-overhead", "compute-overhead", "replication", "s-lora", "own-batch"]
    states = by_name(make_figures(tables, tmp_path / "out", only=only))
    assert [states[name].state for name in only] == ["made", "made", "not made", "not made", "not made"]
    assert states["replication"].why == "no batch_sweep_and_replication.csv in the folder"
    assert "S-LoRA" in states["s-lora"].why
    out = tmp_path / "out"
    assert values(out / "memory-overhead.csv", "mean requests: throughput", "rank 8") == [(32, 1900), (64, 1500)]
    assert values(out / "memory-overhead.csv", "mean requests: KV cache", "rank 8") == [(32, 80_000), (64, 70_000)]
    assert values(out / "compute-overhead.csv", "short requests: time between tokens", "rank 8") == [(4, 75)]
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 2 and "Figure 2" in page and "not made: no batch_sweep" in page
    assert (out / "memory-overhead.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "memory-overhead.svg").read_text().count("<svg") == 1


def test_what_is_made_is_kept_until_data_or_files_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()

    def measured(end: int) -> None:
        (data / "a.sqlite").unlink(missing_ok=True)
        nsys_export(data / "a.sqlite", [Launch("flash_fwd", 5, 10, end)], [Marked("decode batch=8", 0, 9)])

    def made() -> str:
        return by_name(make_figures(data, out, only=["own-kernels"]))["own-kernels"].state

    measured(30)
    assert [made(), made()] == ["made", "kept"]
    (out / "kernel-shares.png").unlink()
    assert made() == "made" and (out / "kernel-shares.png").exists()
    measured(40)
    assert [made(), made()] == ["made", "kept"]
    monkeypatch.setattr(make, "_sources", lambda: "another version")
    assert made() == "made"


@slow
def test_the_page_shows_what_was_made_before_too(tables: Path, tmp_path: Path) -> None:
    for name in ("memory-overhead", "compute-overhead"):
        make_figures(tables, tmp_path / "out", only=[name])
    assert (tmp_path / "out" / "index.html").read_text().count("<svg") == 2


@slow
def test_what_was_interrupted_goes_on(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(chart: Chart, folder: Path) -> list[Path]:
        if chart.name == "compute-overhead":
            raise KeyboardInterrupt
        return write_chart(chart, folder)

    only = ["memory-overhead", "compute-overhead"]
    with monkeypatch.context() as patch:
        patch.setattr(make, "write_chart", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_figures(tables, tmp_path / "out", only=only)
    assert [state.state for state in make_figures(tables, tmp_path / "out", only=only)] == ["kept", "made"]
    assert not list((tmp_path / "out").glob(".*.tmp"))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own runs: batches 1, 8 and 32 with 2 adapters, one more with 4 on 4 slots; as if measured."""
    folder, profile = tmp_path_factory.mktemp("records"), load_profile(PROFILE)
    for number, batch, slots in ((2, 1, 2), (2, 8, 2), (2, 32, 2), (4, 32, 4)):
        lengths = {"prompt": {"kind": "fixed", "tokens": 60}, "output": {"kind": "fixed", "tokens": 20}}
        group = {"name": "a", "count": number, "ranks": 8, "rate": 1.5}
        workload = draw(parse_spec({"window_s": 20, "lengths": lengths, "groups": [group]}))
        (config,) = server_configs(workload, profile, [slots], max_num_seqs=batch)
        run = simulate(workload, profile, config)
        sent = replace(run.requests, sent_s=run.requests.arrival_s)
        known = replace(run, kind="measured", requests=sent, steps=None)
        save_run(known, folder / f"run-{number}-{batch}.json")
    (folder / "notes.json").write_text("{}")
    return folder


def test_own_records_are_figures(records: Path, tmp_path: Path) -> None:
    only = ["own-batch", *(["own-adapters"] if SLOW else []), "own-twin"]
    states = by_name(make_figures(records, tmp_path / "out", only=only, profile=PROFILE))
    assert {name: state.state for name, state in states.items()} == dict.fromkeys(only, "made"), states
    throughput = values(tmp_path / "out" / "own-batch.csv", "throughput", "")
    assert [x for x, _ in throughput] == [1, 8, 32] and throughput[0][1] < throughput[1][1]
    if SLOW:
        assert [x for x, _ in values(tmp_path / "out" / "own-adapters.csv", "throughput", "4 slots")] == [4]
    for x, y in values(tmp_path / "out" / "own-twin.csv", "throughput", "runs"):
        assert y == pytest.approx(x, rel=0.02)  # the twin of what the twin made
    assert "Your own records" in (tmp_path / "out" / "index.html").read_text()


def test_without_a_profile_nothing_is_compared(records: Path, tmp_path: Path) -> None:
    (state,) = make_figures(records, tmp_path / "out", only=["own-twin"])
    assert state.state == "not made" and "name it with --profile" in state.why


def test_own_gpu_profiles_are_figures(tmp_path: Path) -> None:
    nsys_export(tmp_path / "a.sqlite", [Launch("flash_fwd", 5, 10, 30)], [Marked("decode batch=8", 0, 9)])
    (state,) = make_figures(tmp_path, tmp_path / "out", only=["own-kernels"])
    assert state.state == "made"
    assert "decode,attention,8,100" in (tmp_path / "out" / "kernel-shares.csv").read_text()


def test_bad_input_is_one_line(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        make_figures(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InputError, match=r"unknown figure 'knees'\. Did you mean 'knee'"):
        make_figures(tables, tmp_path / "out", only=["knees"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        make_figures(tables, tmp_path / "file" / "out")
    (tables / "llama2_7b_overheads.csv").write_text("a,b\n1,2\n")
    (state,) = make_figures(tables, tmp_path / "out", only=["memory-overhead"])
    assert state.state == "not made" and "column 'group' is missing" in state.why


def test_the_command(tables: Path, tmp_path: Path) -> None:
    words = ["figures", str(tables), "-o", str(tmp_path / "out"), "--only", "s-lora"]
    done = CliRunner().invoke(app, [*words, *(["--only", "memory-overhead"] if SLOW else [])])
    assert done.exit_code == 0 and "s-lora: not made: " in done.output
    assert ("memory-overhead: made\n" in done.output) == SLOW
    assert CliRunner().invoke(app, ["figures", str(tmp_path / "nowhere"), "-o", "out"]).exit_code == 2


def test_the_docs_list_every_figure_with_its_state() -> None:
    text = (ROOT / "docs" / "figures.md").read_text()
    for entry in CATALOGUE:
        row = f"| {entry.name} | {entry.published} | {entry.title} | {entry.state}: "
        assert row in text, f"docs/figures.md lacks: {row}"
        assert all(said in text for said in (entry.measured, entry.simulated, entry.why_not))
    listed = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| name")]
    assert len(listed) == len(CATALOGUE)


def test_a_decode_steps_parts_and_intensities_by_hand() -> None:
    """Attention of an LLM without grouped heads: two operations for each of two numbers of two bytes, 1 a byte; a
    product of matrices: 2 operations for each weight of 2 bytes and each request."""
    llm = find_llm("opt-2.7b")
    assert _intensities(llm, 64)["attention"][0] == pytest.approx(1.0)
    assert _intensities(llm, 64)["matmul"][0] == pytest.approx(64.0)
    few, many = _parts(llm, 8), _parts(llm, 256)
    assert many["attention"] / sum(many.values()) > 3 * few["attention"] / sum(few.values())
    assert many["host"] == pytest.approx(32 * few["host"])


def test_a_chart_is_the_same_bytes_and_has_every_number(tmp_path: Path) -> None:
    stack = [ChartSeries("a", [0, 1], [1.0, 2.0], "stack"), ChartSeries("b", [0, 1], [3.0, 4.0], "stack")]
    panels = [
        Panel("words", "w", "%", stack, ["left", "right"]),
        Panel("log", "x", "y", [ChartSeries("c", [1, 10], [1, 9])], log="xy"),
    ]
    chart = Chart("two", "Two panels", panels, one_legend=True)
    first = [path.read_bytes() for path in write_chart(chart, tmp_path)]
    assert [path.read_bytes() for path in write_chart(chart, tmp_path)] == first
    drawn = chart.figure().axes
    assert drawn[0].get_ylim() == (0, pytest.approx(1.08 * 6)) and drawn[1].get_xscale() == "log"
    assert [bar.get_y() for bar in drawn[0].patches if isinstance(bar, Rectangle)] == [0, 0, 1, 2]
    rows = [[cell.value for cell in row.cells] for row in chart.table().rows]
    assert rows[:3] == [["words", "a", "left", 1.0], ["words", "a", "right", 2.0], ["words", "b", "left", 3.0]]
    assert rows[3:] == [["words", "b", "right", 4.0], ["log", "c", 1.0, 1.0], ["log", "c", 10.0, 9.0]]
    assert [short(v) for v in (0.5, 1000.0, 2.5e6)] == ["0.5", "1k", "2.5M"]


@needs_data
@slow
def test_quick_figures_of_the_measured_tables(tmp_path: Path) -> None:
    only = [
        "measured-grid",
        "memory-overhead",
        "compute-overhead",
        "knee",
        "roofline",
        "step-parts",
        "replication",
        "kv-capacity",
    ]
    states = make_figures(MEASURED, tmp_path, only=only)
    assert [(s.entry.name, s.state, s.why) for s in states if s.state != "made"] == []
    said = dict(values(tmp_path / "knee.csv", "Efficiency of the batch", "opt-1.3b"))
    assert said[256] == pytest.approx(0.11, abs=0.005)
    with open(tmp_path / "replication-table.csv", newline="") as file:
        gains = {
            (r["LLM"], r["batch"], r["replicas"]): float(r["against the largest batch alone, %"])
            for r in csv.DictReader(file)
        }
    assert gains["opt-1.3b", "256", "2"] == pytest.approx(33.7, abs=0.2)  # as published
    assert gains["opt-2.7b", "128", "2"] == pytest.approx(12.8, abs=0.2)


@needs_data
@slow
def test_all_figures_of_the_measured_tables(tmp_path: Path) -> None:
    states = by_name(make_figures(MEASURED, tmp_path, processes=2))
    not_made = {name for name, state in states.items() if state.state == "not made"}
    assert not_made == {"s-lora", "rules", "drawings", "stalls", "own-batch", "own-adapters", "own-twin", "own-kernels"}
    assert min(_decode(tmp_path / "phases.csv")) > 90  # published: about 95 % of the time


def _decode(path: Path) -> list[float]:
    with open(path, newline="") as file:
        return [float(row["y"]) for row in csv.DictReader(file) if row["series"] == "decode"]
