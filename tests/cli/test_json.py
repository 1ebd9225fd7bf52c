"""`--json [FILE|-]` of every command that shows a result, and units in the names of all that it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from loratwin.calibrate.checks.check import Checked, CheckScore, Predicted
from loratwin.calibrate.loop.text import checked_data
from loratwin.cli.app import app
from loratwin.cli.options import with_json_value
from loratwin.report.chance import chance_data
from loratwin.report.validation import validation_data
from loratwin.units import with_units
from loratwin.validate.chance import Statement
from loratwin.validate.curve import curve_data
from tests.cli.program import loratwin
from tests.cli.results import COMMANDS, make_inputs
from tests.cli.terminal import NARROW, faults
from tests.report.test_validation import sample
from tests.slow import SLOW, slow
from tests.validate.test_curve import by_hand_curve
from tests.validate.test_public import public_folder

SILENT = {
    "adapters make", "calibrate import", "calibrate run", "examples", "experiments definition",
    "experiments import", "experiments run", "figures", "fleet deploy", "learn generate", "llm make", "offline",
    "profiles add", "profiles assume", "schema", "traffic import",
}  # fmt: skip
"""Commands that make something, or print a document of its own format."""

ELSEWHERE = {
    "bench", "calibrate check", "calibrate fit", "calibrate server", "fleet compare", "fleet plan", "fleet simulate",
    "fleet tune", "report kernels",
    "validate chance", "validate curve", "validate public", "validate report",
}  # fmt: skip
"""Commands that need a server, its records or minutes: what they show as JSON is below, or in tests/bench."""

UNIT = re.compile(
    r"_(s|ms|gib|bytes|hour|tokens|percent|requests_per_s|tokens_per_s|per_s|per_hour|per_million_tokens|share|usage)"
    r"(_[a-z0-9]+)*$"
)
"""At the end of a name, or before what tells one statistic from another (`ttft_p99_ms`, `prompt_tokens_mean`)."""

_COUNTS = """
    active_parameters adapters arrived bad batch block_size both_no both_yes cases censored completed
    concurrency count disk_loads distinct_adapters draft_parameters draws failed failures false_alarm finished
    format gpus gpus_per_server held_out in_flight in_flight_max in_flight_mean kinds lora_modules max_cpu_loras
    max_in_flight max_lora_rank max_loras max_model_len max_num_batched_tokens max_num_seqs missed most_adapters
    near_optimal_slots near_slots never_sent num_adapters num_gpus num_undecided number parameters passes
    predicted preemptions rank ranks refused requests right_none rows running running_max running_mean runs
    sample seed seeds sent sequences served served_adapters servers serving_runs sets sizes slots starved_runs
    starving_adapters statements swap_ins tensor_parallel tried verdicts_right vision_parameters waiting
    waiting_max waiting_mean waits wrong_length wrong_none
"""
COUNTS = frozenset(_COUNTS.split())
"""Names of numbers of things, and options of engines, which have their own names."""

_RATIOS = """
    brier_score chance confidence coverage covered difference differences factor gpu_memory_utilization growth
    headroom in_shorter_window kept kv_errors level margin mean_error noise scores share share_of_best
    share_of_largest_batch starts starved starved_by_throughput stated tenths times_the_mean to_mean
"""
RATIOS = frozenset(_RATIOS.split())
"""Names of what has no dimension: parts of 1, factors, chances."""

STATISTICS = {"mean", "half_width", "low", "high", "value", "median", "min", "max", "first", "second", "error"}
"""What is said of a figure that is named one level above."""

OWN_UNITS = ("profiles show", "profiles compare", "llm show", "learn rules", "learn table", "learn train")
"""Commands whose names are those of profiles, configs or features, or have a column for the unit."""


TIMED = ("learn table",)
"""Commands that show how long something took."""


def numbers(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Names above every number."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from numbers(value, (*path, name))
    elif isinstance(data, list):
        for value in data:
            yield from numbers(value, path)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield path


def is_told(path: tuple[str, ...]) -> bool:
    """Whether a name says what is measured in which unit: the last that is no statistic, or one above it."""
    told = [name for name in path if name not in STATISTICS]
    return any(UNIT.search(f"_{name}") or name in COUNTS | RATIOS for name in told[-2:])


def all_commands() -> set[str]:
    """Every command by its words, without `loratwin`."""
    group = typer.main.get_command(app)
    found: set[str] = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name} if inner is None else {f"{name} {each}" for each in inner}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target: Path = tmp_path_factory.mktemp("results")
    make_inputs(target)
    return target


def test_every_command_is_known_here() -> None:
    assert all_commands() == {*COMMANDS, *SILENT, *ELSEWHERE}


LONG = ("advise batch", "advise replicas", "learn rules", "learn table", "plan", "validate decisions")
"""Commands that are run once every day, and twice in `.ci/run`."""


@pytest.mark.parametrize("command", sorted({*COMMANDS, *ELSEWHERE}))
def test_every_command_that_shows_a_result_has_the_option(command: str) -> None:
    assert "--json [FILE|-]" in loratwin(*command.split(), "--help").stdout


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[slow] if name == "learn train" else []) for name in sorted(COMMANDS)]
)
def test_json_alone_on_standard_output_or_beside_the_text(folder: Path, command: str) -> None:
    words = (*command.split(), *COMMANDS[command].split())
    printed = loratwin(*words, "--json", cwd=folder)
    assert printed.returncode == 0, printed.stderr
    data = json.loads(printed.stdout)
    if SLOW or command not in LONG:
        written = loratwin(*words, "--json", "found.json", cwd=folder, env=NARROW)
        again = json.loads((folder / "found.json").read_text())
        assert again == data if command not in TIMED else set(numbers(again)) == set(numbers(data))
        assert written.stdout and not written.stdout.startswith(("{", "["))
        assert faults(written.stdout) == [], "on a terminal of 80 columns"
    if command not in OWN_UNITS:
        assert sorted({"/".join(path) for path in numbers(data) if not is_told(path)}) == []


def test_what_slow_commands_show_has_units(tmp_path: Path) -> None:
    stated = [Statement("ttft_p99_ms", 0.9, True), Statement("", 0.3, False)]
    score = CheckScore("open", "total_throughput", Predicted(900.0, 800.0, 1000.0), (1100.0, 1000.0))
    checked = Checked((score,), (("open", False, (False, True)),))
    shown = [
        validation_data(sample(tmp_path)),
        chance_data(stated),
        curve_data(by_hand_curve(tmp_path)),
        checked_data(checked),
    ]
    for data in map(with_units, shown):
        json.dumps(data, allow_nan=False)
        assert sorted({"/".join(path) for path in numbers(data) if not is_told(path)}) == []


def test_predictions_of_what_others_published_have_units(tmp_path: Path) -> None:
    done = loratwin(
        "validate", "public", str(public_folder(tmp_path)), "-o", "p", "--processes", "1", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["serving.csv"][0]["total_throughput_low_tokens_per_s"] > 0
    assert sorted({"/".join(path) for path in numbers(data) if not is_told(path)}) == []


@pytest.mark.parametrize("name", ["total_throughput", "latency", "ttft_mean", "price"])
def test_the_rule_would_notice(name: str) -> None:
    assert not is_told(("figures", name, "mean"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"slots  {'9':>73}", []),
        (f"slots  {'9':>74}", [f"slots  {'9':>74}"]),
        ("a sentence of many words " * 5, []),
        ("reque…  9", ["reque…  9"]),
        ("\x1b[31mtokens/s\x1b[0m  9", []),
    ],
)
def test_a_table_that_is_too_wide_would_be_noticed(text: str, wrong: list[str]) -> None:
    assert faults(text) == wrong


def test_units_are_added_once() -> None:
    data = {"figures": {"total_throughput": {"mean": 1.0}, "ttft_mean_ms": 2.0}, "figure": "goodput"}
    longer = {"figures": {"total_throughput_tokens_per_s": {"mean": 1.0}, "ttft_mean_ms": 2.0}}
    assert with_units(data) == longer | {"figure": "goodput_requests_per_s"}
    assert with_units(with_units(data)) == with_units(data)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("simulate --json example:a", "simulate --json - example:a"),
        ("simulate example:a --json", "simulate example:a --json -"),
        ("plan a --json plan.json --fast", "plan a --json plan.json --fast"),
        ("plan a --json - --fast", "plan a --json - --fast"),
        ("plan a --json=plan --fast", "plan a --json=plan --fast"),
        ("plan --json --fast a", "plan --json - --fast a"),
        ("plan -- --json a", "plan -- --json a"),
    ],
)
def test_json_without_a_file_is_standard_output(given: str, understood: str) -> None:
    assert " ".join(with_json_value(given.split())) == understood


def test_json_replaces_no_input_and_no_record(folder: Path) -> None:
    for words, message in (
        (("report", "measured.json", "--json", "measured.json"), "measured.json is a file that is read"),
        (("report", "--json", "measured.json", "simulated.json"), "measured.json is the record of a run"),
        (
            ("memory", "h100-sxm", "llama-3.1-8b-instruct", "--json", "no/x.json"),
            "cannot write no/x.json: no folder no",
        ),
    ):
        done = loratwin(*words, cwd=folder)
        assert done.returncode == 2 and done.stderr.startswith(f"error: {message}"), done.stderr
