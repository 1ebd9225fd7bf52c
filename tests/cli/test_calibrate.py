"""`loratwin calibrate`: a design, a fit of records, what is measured already, and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loratwin.calibrate.checks.check import Checked, CheckScore, Predicted
from loratwin.calibrate.checks.loads import make_checks
from loratwin.calibrate.design import load_design
from loratwin.cli.calibration import loop
from loratwin.cli.calibration.loop import Folder, design_in, given_config, run_design, server_at_url
from loratwin.cli.calibration.output import as_json, as_markdown, as_text
from loratwin.cli.calibration.servers import Job, Source, busy_note, measure_jobs
from loratwin.errors import InputError
from loratwin.launch.arguments import option
from loratwin.perf import dump_profile, load_profile
from loratwin.records import Run, load_run, save_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from loratwin.telemetry import ServerFacts
from tests.calibrate.known_clients import client_runs, off_start
from tests.calibrate.known_steps import known_design, known_runs
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
        save_run(measured(run), folder / f"{name}.json")
    return folder


def measured(run: Run) -> Run:
    return replace(run, kind="measured", provenance=replace(run.provenance, gpu="cpu", llm="tiny"))


def test_a_design_is_made_for_the_server_and_fits_its_minutes(made: Path, tmp_path: Path) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 12 --max-model-len 512"
    done = loratwin("calibrate", "design", "--lora-folder", str(made / "adapters"), "--server-args", args,
                    "--minutes", "3", "-o", str(tmp_path / "d.yaml"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    design = load_design(tmp_path / "d.yaml")
    assert design.num_adapters == 6 and design.max_num_seqs == 12 and design.seconds() <= 180
    assert "--max-loras 2" in done.stdout and "d.yaml: " in done.stdout


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


class Unstartable(Source):
    """A source whose servers must not be started."""

    def server(self, *_: object) -> object:  # type: ignore[override]
        raise AssertionError("a server was started")


def test_records_that_are_there_are_not_measured_again(made: Path, tmp_path: Path) -> None:
    run, source, seen = measured(known_runs()["few-full"]), Unstartable(made / "adapters"), []
    save_run(run, tmp_path / "done.json")
    workload = known_design().servers[0].runs[0].workload(source.adapters(), 0)
    job = Job(tmp_path / "done.json", workload)
    measure_jobs(source, [], [job], tmp_path / "logs", lambda path, found: seen.append((path, len(found.requests))))
    assert seen == [(job.path, len(run.requests))]
    with pytest.raises(AssertionError, match="was started"):
        measure_jobs(source, [], [job, Job(tmp_path / "new.json", workload)], tmp_path / "logs")


def test_a_busy_machine_is_said_before_it_spoils_the_measurement() -> None:
    assert busy_note(0.4, 2) == ""
    assert "load 3.0 on 2 cores" in busy_note(3.0, 2)


def test_a_folder_goes_on_with_its_design_and_its_runs(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 16 --max-model-len 512"
    folder, source = Folder(tmp_path / "mine"), Unstartable(made / "adapters", args)
    folder.make()
    first = design_in(folder, source, 1.2, None)
    assert design_in(folder, source, 30.0, None) == first  # the file counts
    for server in first.servers:
        for i, run in enumerate(server.runs):
            save_run(measured(list(known_runs().values())[i]), folder.records / f"{server.name}-{run.name}.json")
    run_design(first, source, folder)  # nothing is left to be measured
    assert len(list(folder.records.iterdir())) == first.num_runs
    assert load_run(next(iter(folder.records.iterdir()))).kind == "measured"
    assert not capsys.readouterr().out


@dataclass(frozen=True)
class At(Unstartable):
    """A server at a URL that tells its slots and rank; nobody may measure it."""

    tells: tuple[int | None, int | None] = (None, None)

    def slots_and_rank(self) -> tuple[int | None, int | None]:
        return self.tells


def at(adapters: Path, *tells: int | None) -> At:
    slots, rank = (*tells, None, None)[:2]
    return At(adapters, url="http://there:1", tells=(slots, rank))


@pytest.mark.parametrize(
    ("tells", "named", "found"),
    [((None, None), None, "few"), ((8, None), None, "many"), ((4, 32), None, "rank"), ((None, None), "many", "many")],
)
def test_the_server_at_a_url_is_known_by_its_slots_and_rank_or_by_name(
    tells: tuple[int | None, int | None], named: str | None, found: str
) -> None:
    assert server_at_url(known_design(), at(Path("x"), *tells), named).name == found


@pytest.mark.parametrize(
    ("tells", "named", "message"),
    [
        ((None, None), "other", "no such server, but few, many, rank"),
        ((8, None), "few", "--server few of the design has 2 slots and rank 16, and http://there:1 8 slots"),
        ((5, None), None, "5 slots, and no server of the design has them .*many 8 slots"),
    ],
)
def test_a_server_at_a_url_that_the_design_does_not_know_is_refused(
    tells: tuple[int | None, int | None], named: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        server_at_url(known_design(), at(Path("x"), *tells), named)


def test_a_server_at_a_url_runs_with_what_is_said_of_it_and_the_rest_as_designed(made: Path) -> None:
    source = Source(made / "adapters", "--model tiny --max-loras 4 --max-num-seqs 16", url="http://there:1")
    arguments = source.all_arguments(known_design().servers[0].arguments)
    assert option(arguments, "--max-loras") == "4" and option(arguments, "--max-lora-rank") == "16"
    assert arguments.count("--max-loras") == 1 and "--enable-lora" in arguments
    assert source.slots_and_rank() == (4, None)
    told = source.all_arguments([], ServerFacts(block_size=128, max_model_len=512, max_loras=8))
    assert option(told, "--block-size") == "128" and option(told, "--max-model-len") == "512"
    assert "--block-size" not in source.all_arguments([], ServerFacts())


def test_with_a_url_it_says_what_is_measured_what_is_not_and_how_well_it_is_known(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_design = design_in(Folder(tmp_path), Source(made / "adapters", f"--model {made / 'tiny'}"), 6.0, None)
    design = made_design.model_copy(update={"passes": 1})
    folder, source = Folder(tmp_path / "mine"), at(made / "adapters", 6)
    folder.make()
    runs = [run for name, run in client_runs().items() if name in ("few-full", "few-half", "many-full")]
    for i, run in enumerate(design.servers[1].runs):
        save_run(runs[i % 3], folder.records / f"many-{run.name}.json")
    run_design(design, source, folder, off_start().llm, off_start())
    said = capsys.readouterr().err
    assert "http://there:1 is measured as server 'many' of the design (6 slots and rank 16)" in said
    assert "of server 'few' are not measured: start the server with --enable-lora --max-loras 2" in said
    assert "call again with --server few" in said and "of server 'many' are not" not in said
    assert said.count("a run's step time is known to") == len(design.servers[1].runs)


def test_a_check_is_shown_in_three_forms() -> None:
    scores = (
        CheckScore("open-2", "itl_mean_ms", Predicted(10.0, 9.0, 11.0), (9.5, 10.5)),
        CheckScore("open-2", "total_throughput", Predicted(900.0, 800.0, 1000.0), (1100.0, 1000.0)),
    )
    checked = Checked(scores, (("open-2", False, (False, True)),))
    text, markdown, plain = as_text(checked), as_markdown(checked), json.loads(as_json(checked))
    assert "10 [9, 11] / 9.5, 10.5: +0.0 %" in text and "(!)" in text
    assert "starved or not: 1 of 2 as predicted" in text
    assert markdown.count("|") > 10 and "- ITL ms: mean error 0.0 %, noise of repetitions 5.0 %" in markdown
    assert plain["scores"][0]["measured"] == [9.5, 10.5] and plain["mean_error"]["ttft_mean_ms"] is None
    assert plain["coverage"]["total_throughput"] == 0.5


def test_a_result_of_vllms_benchmark_becomes_a_record(tmp_path: Path) -> None:
    path = write(tmp_path, result())
    done = loratwin("calibrate", "import", str(path), "-o", str(tmp_path / "run.json"), "--adapters", "a,b",
                    "--ranks", "8", "--server-args", "--model tiny --enable-lora --max-loras 4 -tp 2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run.json")
    assert option(run.provenance.server_args, "-tp") == "2"
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


def test_records_of_another_check_are_not_scored_as_this_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 16 --max-model-len 512"
    folder, source, profile = Folder(tmp_path / "mine"), Unstartable(made / "adapters", args), off_start()
    folder.make()
    (check, *_) = make_checks(profile, given_config(args), [2], source.adapters(), 4.0)
    monkeypatch.setattr(loop, "checks_for", lambda *_: [check])
    run = replace(measured(known_runs()["few-full"]), config=check.config)
    for digest in (check.workload.digest, "another"):
        provenance = replace(run.provenance, workload_hash=digest)
        save_run(replace(run, provenance=provenance), folder.checks / f"{check.name}-1.json")
        if digest != "another":
            loop.check_server(profile, source, folder, 4.0, 1)
    before = (folder.checks / "predictions.json").read_bytes()
    with pytest.raises(InputError, match=r"-1\.json was measured with another workload.*another profile, window"):
        loop.check_server(profile, source, folder, 4.0, 1)
    assert (folder.checks / "predictions.json").read_bytes() == before


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_evidence_is_refused_before_anything_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = loratwin("calibrate", "fit", name, "-o", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: {name}: neither records of runs (.json, .parquet) nor measured tables (.csv) are there\n"
    )
