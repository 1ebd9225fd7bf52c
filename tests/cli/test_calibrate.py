"""`loratwin calibrate`: a design, a fit of records, what is measured already, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.calibrate.design import load_design
from loratwin.perf import dump_profile, load_profile
from loratwin.records import load_run, save_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.calibrate.known_clients import client_runs, off_start
from tests.calibrate.known_steps import as_measured, known_runs
from tests.calibrate.test_vllm_bench import result, write
from tests.cli.program import loratwin


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM and its adapters."""
    folder = tmp_path_factory.mktemp("made")
    make_adapters(folder / "adapters", make_llm(folder / "tiny", NewLlm()), numbered("a", 6, (8, 16)))
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records as a measured server would leave them."""
    folder = tmp_path_factory.mktemp("measured") / "records"
    folder.mkdir()
    for name, run in known_runs().items():
        save_run(as_measured(run), folder / f"{name}.json")
    return folder


def test_a_design_is_made_for_the_server_and_fits_its_minutes(made: Path, tmp_path: Path) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 12 --max-model-len 512"
    done = loratwin("calibrate", "design", "--lora-folder", str(made / "adapters"), "--server-args", args,
                    "--minutes", "3", "-o", str(tmp_path / "d.yaml"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    design = load_design(tmp_path / "d.yaml")
    assert design.num_adapters == 6 and design.max_num_seqs == 12 and design.seconds() <= 180
    assert "--max-loras 2" in done.stdout and "d.yaml: " in done.stdout
    refused = loratwin("calibrate", "run", str(tmp_path / "d.yaml"), "-o", str(tmp_path / "m"), "--lora-folder",
                       str(made / "adapters"), "--server-args", args, "--minutes", "0")  # fmt: skip
    assert (refused.returncode, refused.stderr) == (2, "error: --minutes 0: it must be a positive number\n")
    assert not (tmp_path / "m").exists()


def test_records_are_fitted_to_a_profile_that_simulates(made: Path, records: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    done = loratwin("calibrate", "fit", str(records.parent), "-o", str(path), "--llm", str(made / "tiny"))
    assert done.returncode == 0, done.stderr
    assert "step_time.slot_s" in done.stdout and "+-" in done.stdout
    assert load_profile(str(path)).domain.max_loras == (2, 8)
    workload = tmp_path / "w.yaml"
    workload.write_text("window_s: 10\nlengths: {prompt: 30, output: 10}\ngroups: [{name: a, count: 4, rate: 1}]\n")
    said = loratwin("simulate", str(workload), "--profile", str(path), "--max-loras", "4")
    assert said.returncode == 0, said.stderr


@pytest.fixture(scope="module")
def plain_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records without steps, as of a server at a URL."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("few-full", "few-half", "few-prompts", "many-full"):
        save_run(client_runs()[name], folder / f"{name}.json")
    return folder


def test_records_without_steps_are_fitted_around_a_start(plain_records: Path, tmp_path: Path) -> None:
    start, path = tmp_path / "start.yaml", tmp_path / "mine.yaml"
    start.write_text(dump_profile(off_start()))
    done = loratwin("calibrate", "fit", str(plain_records), "-o", str(path), "--start", str(start))
    assert done.returncode == 0, done.stderr
    assert "clients' figures of 4 runs without steps" in done.stdout
    assert "note: no engine steps were logged: start other/one/tiny" in done.stdout
    assert load_profile(str(path)).llm.name == "tiny"


def test_records_without_steps_and_start_are_refused_in_one_line(
    made: Path, plain_records: Path, tmp_path: Path
) -> None:
    arguments = ("calibrate", "fit", str(plain_records), "-o", str(tmp_path / "p.yaml"), "--llm", str(made / "tiny"))
    done = loratwin(*arguments)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "--start" in done.stderr and "nothing is assumed of a CPU" in done.stderr
    assert not (tmp_path / "p.yaml").exists()


def test_simulated_records_are_no_evidence(tmp_path: Path, made: Path) -> None:
    save_run(known_runs()["few-full"], tmp_path / "one.json")
    done = loratwin("calibrate", "fit", str(tmp_path), "-o", str(tmp_path / "p.yaml"), "--llm", str(made / "tiny"))
    assert done.returncode == 2 and "simulated, not measured" in done.stderr
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("design", "--lora-folder", "nowhere"), "loratwin adapters make"),
        (("run", "nowhere.yaml", "-o", "x", "--lora-folder", "y"), "design nowhere.yaml: cannot be read"),
        (("server", "x", "--lora-folder", "nowhere"), "which LLM?"),
        (("run", "d", "-o", "x", "--lora-folder", "y", "--step-log", "z"), "--step-log is for a server at --url"),
        (("run", "d", "-o", "x", "--lora-folder", "y", "--server", "few"), "--server is for a server at --url"),
    ],
)
def test_refusals_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = loratwin("calibrate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_result_of_vllms_benchmark_becomes_a_record(tmp_path: Path) -> None:
    path = write(tmp_path, result())
    done = loratwin("calibrate", "import", str(path), "-o", str(tmp_path / "run.json"), "--adapters", "a,b",
                    "--ranks", "8", "--server-args", "--model tiny --enable-lora --max-loras 4 -tp 2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run.json")
    assert run.provenance.server_args[-2:] == ("-tp", "2")
    assert run.config.max_loras == 4 and run.adapters.name == ("a", "b") and len(run.requests) == 3


def test_a_model_that_is_known_elsewhere_only_leaves_the_starts_llm(plain_records: Path, tmp_path: Path) -> None:
    start, folder = tmp_path / "start.yaml", tmp_path / "records"
    start.write_text(dump_profile(off_start()))
    folder.mkdir()
    for path in plain_records.iterdir():
        run = load_run(path)
        args = ("--model", "/their/disk/tiny", "--dtype", "float32")
        save_run(replace(run, provenance=replace(run.provenance, server_args=args)), folder / path.name)
    arguments = ("calibrate", "fit", str(folder), "-o", str(tmp_path / "mine.yaml"), "--start", str(start))
    done = loratwin(*arguments)
    assert done.returncode == 0, done.stderr
    assert load_profile(str(tmp_path / "mine.yaml")).llm == off_start().llm
    assert "note: the server ran with --dtype float32" in done.stdout
    assert "unknown LLM 'nope'" in loratwin(*arguments, "--llm", "nope").stderr


def test_the_form_of_a_check_is_looked_at_before_it_is_measured(made: Path, tmp_path: Path) -> None:
    done = loratwin("calibrate", "check", "absent.yaml", "-o", str(tmp_path / "mine"), "--lora-folder",
                    str(made / "adapters"), "--format", "xml")  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: --format 'xml': must be one of text, json, markdown\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_evidence_is_refused_before_anything_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = loratwin("calibrate", "fit", name, "-o", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: {name}: neither records of runs (.json, .parquet) nor measured tables (.csv) are there\n"
    )
