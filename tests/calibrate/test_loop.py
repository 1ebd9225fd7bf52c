"""The loop of a calibration: what is there is not measured again, and which server of the design a URL is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from loratwin.bench import Listener
from loratwin.calibrate.checks.check import Checked, CheckScore, Predicted
from loratwin.calibrate.checks.loads import make_checks
from loratwin.calibrate.loop import checking
from loratwin.calibrate.loop.checking import check_server
from loratwin.calibrate.loop.designed import design_in, measure_design, server_at_url
from loratwin.calibrate.loop.folder import CalibrationFolder
from loratwin.calibrate.loop.measuring import PlannedRun, busy_note, measure_runs, run_options
from loratwin.calibrate.loop.source import ServerSource
from loratwin.calibrate.loop.text import as_json, as_markdown, as_text
from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import find_engine
from loratwin.errors import InputError
from loratwin.records import load_run, save_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from loratwin.telemetry import ServerFacts
from tests.bench.servers import timed_server
from tests.calibrate.known_clients import client_runs, off_start
from tests.calibrate.known_steps import as_measured, known_design, known_runs
from tests.launch.test_local import process
from tests.slow import slow

NO_ARGUMENTS = ServerArguments.of(find_engine("vllm"), "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLM and its adapters."""
    folder = tmp_path_factory.mktemp("made")
    make_adapters(folder / "adapters", make_llm(folder / "tiny", NewLlm()), numbered("a", 6, (8, 16)))
    return folder


class Unstartable(ServerSource):
    """A source whose servers must not be started."""

    def server(self, *_: object) -> object:  # type: ignore[override]
        raise AssertionError("a server was started")


def test_records_that_are_there_are_not_measured_again(made: Path, tmp_path: Path) -> None:
    run, source, seen = as_measured(known_runs()["few-full"]), Unstartable(made / "adapters"), []
    save_run(run, tmp_path / "done.json")
    workload = known_design().servers[0].runs[0].workload(source.adapters(), 0)
    planned = PlannedRun(tmp_path / "done.json", workload)
    measure_runs(
        source, NO_ARGUMENTS, [planned], tmp_path / "logs", lambda path, known: seen.append((path, len(known.requests)))
    )
    assert seen == [(planned.path, len(run.requests))]
    with pytest.raises(AssertionError, match="was started"):
        measure_runs(source, NO_ARGUMENTS, [planned, PlannedRun(tmp_path / "new.json", workload)], tmp_path / "logs")


def test_a_busy_machine_is_said_before_it_spoils_the_measurement() -> None:
    assert busy_note(0.1) == busy_note(float("nan")) == ""
    assert "75% of its cores are busy" in busy_note(0.75)


def test_a_folder_goes_on_with_its_design_and_its_runs(made: Path, tmp_path: Path) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 16 --max-model-len 512"
    folder, source = CalibrationFolder.made(tmp_path / "mine"), Unstartable(made / "adapters", args)
    first = design_in(folder, source, 1.2, None)
    assert design_in(folder, source, 30.0, None) == first  # the file counts
    for server in first.servers:
        for i, run in enumerate(server.runs):
            save_run(as_measured(list(known_runs().values())[i]), folder.records / f"{server.name}-{run.name}.json")
    measure_design(first, source, folder.path)  # nothing is left to be measured
    assert len(list(folder.records.iterdir())) == first.num_runs
    assert load_run(next(iter(folder.records.iterdir()))).kind == "measured"


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
    source = ServerSource(made / "adapters", "--model tiny --max-loras 4 --max-num-seqs 16", url="http://there:1")
    arguments = source.all_arguments(known_design().servers[0].arguments())
    assert arguments.whole("max_loras") == 4 and arguments.whole("max_lora_rank") == 16
    assert arguments.words.count("--max-loras") == 1 and arguments.is_on("enable_lora")
    assert source.slots_and_rank() == (4, None)
    nothing = ServerArguments(find_engine("vllm"))
    told = source.all_arguments(nothing, ServerFacts(block_size=128, max_model_len=512, max_loras=8))
    assert told.whole("block_size") == 128 and told.whole("max_model_len") == 512
    assert "block_size" not in source.all_arguments(nothing, ServerFacts())


def test_with_a_url_it_says_what_is_measured_what_is_not_and_how_well_it_is_known(made: Path, tmp_path: Path) -> None:
    made_design = design_in(
        CalibrationFolder.made(tmp_path), ServerSource(made / "adapters", f"--model {made / 'tiny'}"), 6.0, None
    )
    design = made_design.model_copy(update={"passes": 1})
    folder, source = CalibrationFolder.made(tmp_path / "mine"), at(made / "adapters", 6)
    runs = [run for name, run in client_runs().items() if name in ("few-full", "few-half", "many-full")]
    for i, run in enumerate(design.servers[1].runs):
        save_run(runs[i % 3], folder.records / f"many-{run.name}.json")
    lines: list[str] = []
    measure_design(design, source, folder.path, off_start().llm, off_start(), listener=Listener(lines.append))
    said = "\n".join(lines)
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


def test_records_of_another_check_are_not_scored_as_this_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = f"--model {made / 'tiny'} --max-num-seqs 16 --max-model-len 512"
    folder, source, profile = (
        CalibrationFolder.made(tmp_path / "mine"),
        Unstartable(made / "adapters", args),
        off_start(),
    )
    (check, *_) = make_checks(profile, source.config(), [2], source.adapters(), 4.0)
    monkeypatch.setattr(checking, "checks_for", lambda *_: [check])
    run = replace(as_measured(known_runs()["few-full"]), config=check.config)
    for digest in (check.workload.digest, "another"):
        provenance = replace(run.provenance, workload_hash=digest)
        save_run(replace(run, provenance=provenance), folder.checks / f"{check.name}-1.json")
        if digest != "another":
            check_server(profile, source, folder.path, 4.0, 1)
    before = (folder.checks / "predictions.json").read_bytes()
    with pytest.raises(InputError, match=r"-1\.json was measured with another workload.*another profile, window"):
        check_server(profile, source, folder.path, 4.0, 1)
    assert (folder.checks / "predictions.json").read_bytes() == before


def test_runs_at_a_url_are_measured_and_not_measured_again(made: Path, tmp_path: Path) -> None:
    """With a server of known timing: its adapters registered, a closed loop of the design, its record, no leftovers."""
    few = known_design().servers[0]
    run = few.runs[0].model_copy(update={"window_s": 2.0, "adapters": 2})
    design = known_design().model_copy(update={"servers": (few.model_copy(update={"runs": (run,)}),), "passes": 1})
    folder = CalibrationFolder.made(tmp_path / "mine")
    lines: list[str] = []
    phases: list[str] = []
    listener = Listener(lines.append, lambda now: phases.append(now.phase))
    with timed_server(tmp_path, "llm") as server:
        source = ServerSource(made / "adapters", "--max-loras 2", url=server.url)
        measure_design(design, source, folder.path, server=few.name, listener=listener)
        truth = server.stop()
    (path,) = folder.records.iterdir()
    measured = load_run(path)
    assert path.name == f"{few.name}-{run.name}.json" and measured.config.max_loras == 2 and not measured.invalid
    assert {name for _, name, *_ in truth["requests"]} == {"llm", *source.adapters().name}
    assert phases[-1] == "done" and lines[-1] == f"{few.name}-{run.name}: {run.tells}"
    measure_runs(
        Unstartable(made / "adapters"), NO_ARGUMENTS, [PlannedRun(path, run.workload(source.adapters(), 0))], tmp_path
    )


has_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc here")
LINE = "vllm serve elsewhere/tiny --enable-lora --max-loras 2 --max-lora-rank 16 --max-num-seqs 11"


@has_proc
def test_a_server_at_a_url_of_this_machine_tells_its_flags_unless_the_user_does(made: Path, tmp_path: Path) -> None:
    with process(tmp_path / "vllm", *LINE.split()[1:]) as url:
        source = ServerSource(made / "adapters", url=url)
        assert source.slots_and_rank() == (2, 16) and source.arguments.whole("max_num_seqs") == 11
        assert not source.names_llm()  # a folder as the server sees it
        said = ServerSource(made / "adapters", "--max-loras 5 --model tiny", url=url)
        assert said.slots_and_rank() == (5, None) and said.names_llm()


@slow
@has_proc
def test_a_record_at_a_url_has_the_flags_of_the_process_not_the_designs(made: Path, tmp_path: Path) -> None:
    few = known_design().servers[0]
    run = few.runs[0].model_copy(update={"window_s": 1.0, "adapters": 2})
    design = known_design().model_copy(update={"servers": (few.model_copy(update={"runs": (run,)}),), "passes": 1})
    with timed_server(tmp_path, "llm", line=LINE) as server:
        measure_design(design, ServerSource(made / "adapters", url=server.url), tmp_path / "mine")
    (path,) = (tmp_path / "mine" / "records").iterdir()
    measured = load_run(path)
    assert (measured.config.max_num_seqs, measured.config.max_loras) == (11, 2)
    assert "--max-num-seqs" in measured.provenance.server_args and measured.provenance.gpu
    assert measured.provenance.server_env is not None


def test_runs_that_do_not_fit_into_the_minutes_are_left_out(made: Path, tmp_path: Path) -> None:
    few, lines = known_design().servers[0], list[str]()
    fits = few.model_copy(update={"runs": few.runs[:1]})
    design = known_design().model_copy(update={"servers": (fits,), "passes": 1})
    with timed_server(tmp_path, "llm") as server:
        source = ServerSource(made / "adapters", "--max-loras 2", url=server.url)
        measure_design(design, source, tmp_path / "mine", minutes=0.01, listener=Listener(lines.append))
    assert not list((tmp_path / "mine" / "records").glob("*.json"))
    assert any("left out, since the minutes are over" in line for line in lines)


def test_minutes_that_are_none_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--minutes -1: it must be a positive number"):
        measure_design(known_design(), Unstartable(made / "adapters"), tmp_path, minutes=-1.0)


def test_runs_on_one_server_ask_for_each_adapter_once_and_repeat_no_prompt(made: Path, tmp_path: Path) -> None:
    """A server that caches prefixes would answer known ones faster; the two runs have the same requests."""
    run = known_design().servers[0].runs[0].model_copy(update={"window_s": 1.0, "adapters": 2})
    with timed_server(tmp_path, "llm") as server:
        source = ServerSource(made / "adapters", "--max-loras 2", url=server.url)
        workload = run.workload(source.adapters(), 0)
        planned = [PlannedRun(tmp_path / f"{name}.json", workload, run.in_flight) for name in ("one", "two")]
        measure_runs(source, ServerArguments(find_engine("vllm")), planned, tmp_path / "logs")
        truth = server.stop()
    asked = [name for _, name, prompt, output, *_ in truth["requests"] if (prompt, output) == (8, 1)]
    assert sorted(asked) == sorted(source.adapters().name)
    beginnings = [tuple(prompt[:8]) for prompt in truth["prompts"]]
    assert len(beginnings) > 2 * run.in_flight and len(set(beginnings)) == len(beginnings)


@pytest.mark.parametrize(("in_flight", "warm_up"), [(0, 16), (4, 4), (64, 64), (2048, 64)])
def test_a_run_warms_up_with_one_batch(made: Path, tmp_path: Path, in_flight: int, warm_up: int) -> None:
    source = ServerSource(made / "adapters")
    workload = known_design().servers[0].runs[0].workload(source.adapters(), 0)
    assert run_options(PlannedRun(tmp_path / "r.json", workload, in_flight), source, True).warm_up == warm_up
