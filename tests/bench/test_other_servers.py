"""Servers that are no vLLM: what they refuse of a request is found by one question each, left out, and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.bench import GivenServers, Listener, Options, load_requests, measure
from loratwin.bench.result import _noticed
from loratwin.bench.shared.requests import FULL, RequestForm
from loratwin.bench.worker.events import StreamedAnswer
from loratwin.bench.worker.form import find_form, is_refusal
from loratwin.errors import InputError
from loratwin.metrics import validity
from loratwin.records import Run, load_run
from tests.bench.other_servers import MOST, LlamaCpp, Ollama, OtherServer, Transformers, other_server
from tests.metrics.runs import make_run
from tests.slow import slow

NO_IDS = RequestForm(token_ids=False)


@pytest.mark.parametrize(
    ("kind", "form", "questions"),
    [
        (Transformers, RequestForm(token_ids=False, ignore_eos=False), 7),
        (Ollama, NO_IDS, 6),
        (LlamaCpp, FULL, 6),
    ],
)
def test_each_doubtful_field_is_one_question(kind: type[OtherServer], form: RequestForm, questions: int) -> None:
    with other_server(kind) as (url, asked):
        assert find_form(url, "tiny", "completions", {}) == form
    assert len(asked) == questions and asked[0].keys() == {"model", "prompt", "max_tokens", "stream"}


def test_where_not_even_the_least_is_taken_the_fault_is_another() -> None:
    class Broken(Transformers):
        known = frozenset[str]()

    with other_server(Broken) as (url, asked):
        assert find_form(url, "tiny", "completions", {}) == FULL
    assert len(asked) == 1


def test_only_some_failures_may_be_those_of_a_field() -> None:
    assert is_refusal("HTTP 400") and is_refusal("HTTP 422") and is_refusal("HTTP 500")
    others = ("HTTP 401", "HTTP 404", "HTTP 429", "HTTP 503", "connection refused", "malformed stream")
    assert not any(map(is_refusal, others))


def test_the_last_event_may_have_reason_and_count_at_once() -> None:
    answer = StreamedAnswer()
    answer.feed(b'data: {"choices":[{"index":0,"text":" a"}]}\n\n')
    answer.feed(
        b'data: {"choices":[{"finish_reason":"length","index":0,"text":""}],'
        b'"usage":{"completion_tokens":3,"prompt_tokens":4,"total_tokens":7}}\n\n'
    )
    answer.end()
    assert (answer.tokens, answer.counted_prompt, answer.counted_output) == (3, 4, 3)


def measured(kind: type[OtherServer], folder: Path, lines: list[str]) -> Run:
    """Two seconds of traffic without adapters."""
    lengths = "{prompt: {kind: fixed, tokens: 12}, output: {kind: fixed, tokens: 9}}"
    (folder / "workload.yaml").write_text(f"window_s: 2\nlengths: {lengths}\nbase: {{rate: 10}}\n")
    requests = load_requests(folder / "workload.yaml")
    with other_server(kind) as (url, _):
        return measure(
            requests, GivenServers(url, llm="tiny"), folder / "run.json", options=Options(warm_up=2),
            listener=Listener(lines.append),
        )  # fmt: skip


def test_what_is_refused_is_left_out_of_a_run_and_said(tmp_path: Path) -> None:
    lines: list[str] = []
    run = measured(Transformers, tmp_path, lines)
    assert run.provenance.left_out == ("token_ids", "ignore_eos", "min_tokens")
    lengths = "the server refuses min_tokens: output lengths are not controlled, and what came counts"
    assert lengths in lines and lengths in run.provenance.notes
    done = run.requests.failure < 0
    assert done.any() and set(run.requests.output_tokens[done].tolist()) <= {MOST, 9}
    assert set(run.requests.prompt_tokens[done].tolist()) == {12}  # words of one token each for this server
    assert not any("tokens than asked for" in reason or "failed" in reason for reason in run.invalid)


@slow
def test_an_ollama_passes_over_ignore_eos_which_its_answers_tell(tmp_path: Path) -> None:
    run = measured(Ollama, tmp_path, [])
    assert run.provenance.left_out == ("token_ids", "ignore_eos unheeded")
    (note,) = (note for note in run.provenance.notes if "does not heed it" in note)
    assert "answers ended before the tokens that were asked for; output lengths are not controlled" in note
    assert not any("tokens than asked for" in reason for reason in run.invalid)
    assert load_run(tmp_path / "run.json").provenance == run.provenance


@pytest.mark.parametrize(("version", "output"), [("vllm-0.32.0", [2, 9]), ("", [9, 9]), ("", [2, 10])])
def test_other_lengths_of_an_engine_or_longer_ones_are_a_fault(version: str, output: list[int]) -> None:
    run = make_run([0.1, 0.2], [0.1, 0.2], [0.5, 0.6], asked=[9, 9], output=output, kind="measured")
    run = replace(run, provenance=replace(run.provenance, engine_version=version))
    assert _noticed(run) == run
    wrong = any("another number of tokens than asked for" in reason for reason in validity(run))
    assert wrong == (output != [9, 9])


@slow
def test_a_llama_cpp_takes_all(tmp_path: Path) -> None:
    lines: list[str] = []
    run = measured(LlamaCpp, tmp_path, lines)
    assert run.provenance.left_out == () and not any("refuses" in line for line in lines)
    assert set(run.requests.output_tokens.tolist()) == {9} and not any("tokens" in reason for reason in run.invalid)


def test_a_server_that_lists_no_models_needs_the_name_of_its_llm(tmp_path: Path) -> None:
    with other_server(Transformers) as (url, _):
        with pytest.raises(InputError, match="HTTP 500"), GivenServers(url).running((), {}, tmp_path):
            pass
        with GivenServers(url, llm="tiny").running((), {}, tmp_path) as running:
            assert running.llm == "tiny"
