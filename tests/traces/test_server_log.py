"""A server's own request log, in the words of several versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.traces import Trace, read_trace

ASKED = "SamplingParams(n=1, temperature=0.0, max_tokens={}, min_tokens=0)"
LORA = "LoRARequest(lora_name='{}', lora_int_id=1, lora_path='adapters/{}')"
OLD = [
    "INFO 11-27 20:20:00 [api_server.py:1] vLLM API server version 0.9.2",
    "INFO 11-27 20:20:05 [logger.py:43] Received request cmpl-1-0: prompt: 'it\\'s', params: "
    + ASKED.format(64)
    + ", prompt_token_ids: [1, 2, 3, 4, 5], prompt_embeds shape: None, lora_request: "
    + LORA.format("red", "red")
    + ".",
    "INFO 11-27 20:20:07 [logger.py:43] Received request cmpl-2-0: prompt: 'abcdefgh', params: "
    + ASKED.format(32)
    + ", prompt_token_ids: None, prompt_embeds shape: None, lora_request: None.",
]
NEW = [
    f"(APIServer pid=7) INFO 11-27 20:20:05 [request_logger.py:65] Received request a: params: {ASKED.format(64)}, "
    f"lora_request: {LORA.format('red', 'red')}.",
    "(APIServer pid=7) DEBUG 11-27 20:20:05 [request_logger.py:54] Request a details: prompt: 'x', "
    "prompt_token_ids: [1, 2, 3], prompt_embeds shape: None.",
    "(APIServer pid=7) INFO 11-27 20:20:09 [request_logger.py:108] Generated response a (streaming complete): "
    "output: 'abcdefghi', finish_reason: stop",
]


def read(folder: Path, lines: list[str]) -> Trace:
    (folder / "server.log").write_text("\n".join(lines) + "\n")
    return read_trace(folder / "server.log")


def test_prompts_and_their_tokens_of_older_versions(tmp_path: Path) -> None:
    trace = read(tmp_path, OLD)
    assert trace.arrival_s.tolist() == [0, 2]
    assert trace.prompt_tokens.tolist() == [5, 2]
    assert trace.output_tokens.tolist() == [64, 32]
    assert trace.adapter.tolist() == [0, -1] and trace.adapter_names == ("red",)
    assert any("at most" in note for note in trace.facts.notes)


def test_details_and_responses_of_newer_ones(tmp_path: Path) -> None:
    trace = read(tmp_path, NEW)
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([3], [3])
    assert not any("at most" in note for note in trace.facts.notes)


def test_a_log_without_requests_or_tokens_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without requests; it logs them with --enable-log-requests"):
        read(tmp_path, OLD[:1])
    with pytest.raises(InputError, match="column 'prompt_tokens' is missing"):
        read(tmp_path, NEW[:1])


STREAMED = [
    "       █     █     █▄   ▄█   vLLM",
    "",
    f"(APIServer pid=7) INFO 12-31 23:59:59 [logger.py:43] Received request cmpl-9-0: prompt: None, params: "
    f"{ASKED.format(64)}, prompt_token_ids: [1, 2, 3], prompt_embeds shape: None, lora_request: "
    f"{LORA.format('red', 'red')}.",
    "(APIServer pid=7) INFO 12-31 23:59:59 [logger.py:71] Generated response cmpl-9 (streaming delta): output: 'ab', "
    "output_token_ids: [5, 6], finish_reason: None",
    "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:71] Generated response cmpl-9 (streaming delta): output: 'c', "
    "output_token_ids: [7], finish_reason: stop",
    "(APIServer pid=7) INFO 01-01 00:00:00 [logger.py:71] Generated response cmpl-9 (streaming complete): "
    "output: 'abc', output_token_ids: None, finish_reason: streaming_complete",
    f"(APIServer pid=7) INFO 01-01 00:00:02 [logger.py:43] Received request cmpl-10-0: prompt: None, params: "
    f"{ASKED.format(32)}, prompt_token_ids: [1, 2], prompt_embeds shape: None, lora_request: None.",
]


@pytest.mark.parametrize("before", ["", "vllm-1  | ", "2026-12-31T23:59:59.123456789Z ", "\x1b[36mvllm-1  |\x1b[0m "])
def test_streams_over_new_year_behind_what_others_write(tmp_path: Path, before: str) -> None:
    """Parts of a stream count together; a banner stands before the log; and no time goes back by a year."""
    trace = read(tmp_path, [before + line for line in STREAMED])
    assert trace.arrival_s.tolist() == [0, 3]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([3, 2], [3, 32])
    assert not any("estimated" in note for note in trace.facts.notes)
