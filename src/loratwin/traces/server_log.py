"""The request log of a server (`--enable-log-requests`) as records: when, which adapter, how long as far as it says.

Lines of vLLM's `RequestLogger` (read in 0.9.2, 0.10.0, 0.14.0, 0.18.1, 0.22.0 and 0.32.0): "Received request ID: ..."
with `max_tokens` and the adapter; up to 0.11 also the prompt and its tokens, later these only at the level DEBUG
("Request ID details"). What was generated stands in "Generated response ID" (`--enable-log-outputs`); else it is
taken to be as long as was asked for at most. Times have no year.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from loratwin.traces.nested import CHARACTERS_PER_TOKEN

_LINE = re.compile(r"(?:^|[\s|)])(?:INFO|DEBUG|WARNING|ERROR)\s+(\d\d)(-\d\d \d\d:\d\d:\d\d)\s")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_REQUEST = re.compile(r"Received request ([^\s:]+): (.*)")
_DETAILS = re.compile(r"Request (\S+) details: (.*)")
_RESPONSE = re.compile(r"Generated response ([^\s:]+?)(?: \(streaming (\w+)\))?(?: details)?: (.*)")
_ADAPTER = re.compile(r"lora_request: LoRARequest\(.*?lora_name='([^']*)'")
_MOST = re.compile(r"max_tokens=(\d+)")
_PROMPT = re.compile(r"prompt: (?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")")
_OUTPUT = re.compile(r"output: (?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")")
_IDS = r"{}_token_ids: \[([^\]]*)\]"
_YEAR = 2000

UPPER = "outputs are taken to be as long as was asked for at most: the log does not tell how long they were"
TEXT = f"lengths are estimated, {CHARACTERS_PER_TOKEN} characters of text to a token, where the log has no token ids"
YEAR = f"times have no year in this log; {_YEAR} stands for it"


def is_server_log(line: str) -> bool:
    """Whether a line is one of such a log."""
    return _LINE.search(_COLOUR.sub("", line)[:200]) is not None


def log_records(lines: Iterable[tuple[int, str]]) -> tuple[list[tuple[int, dict[str, Any]]], tuple[str, ...]]:
    """Requests in the order of the log, with the line of each, and what is to be said of them."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    notes = dict.fromkeys([YEAR])
    year, month = _YEAR, 1
    for number, line in lines:
        line = _COLOUR.sub("", line)
        stamp = _LINE.search(line[:200])
        if stamp is None:
            continue
        year, month = year + (month == 12 and stamp[1] == "01"), int(stamp[1])
        if request := _REQUEST.search(line):
            found[request[1]] = number, _received(f"{year}-{stamp[1]}{stamp[2]}", request[2], notes)
        elif (details := _DETAILS.search(line)) and details[1] in found:
            found[details[1]][1].update(_length("prompt", _PROMPT, details[2], notes))
        elif (response := _RESPONSE.search(line)) and (of := _id_of(response[1], found)):
            _answered(found[of][1], response[2] or "", response[3], notes)
    records = list(found.values())
    if any("told" not in record for _, record in records):
        notes[UPPER] = None
    return records, tuple(notes)


def _id_of(said: str, found: Mapping[str, Any]) -> str:
    """The request of an answer, which completions number behind their id; "": none."""
    return next((name for name in (said, f"{said}-0") if name in found), "")


def _answered(record: dict[str, Any], how: str, said: str, notes: dict[str, None]) -> None:
    """The output of a request: of a stream its parts together, where they are logged with their tokens."""
    generated = _length("output", _OUTPUT, said, {} if record.get("parts") else notes)
    if how == "delta":
        record["parts"] = record.get("parts", 0) + generated.get("output_tokens", 0)
        generated = {"output_tokens": record["parts"]}
    elif record.get("parts"):
        generated = {}
    record.update(generated, **({"told": True} if generated else {}))


def _received(stamp: str, said: str, notes: dict[str, None]) -> dict[str, Any]:
    adapter, most = _ADAPTER.search(said), _MOST.search(said)
    record: dict[str, Any] = {"time": stamp, "adapter": adapter[1] if adapter else ""}
    record |= {"output_tokens": int(most[1])} if most else {}
    return record | _length("prompt", _PROMPT, said, notes)


def _length(side: str, text: re.Pattern[str], said: str, notes: dict[str, None]) -> dict[str, int]:
    """Tokens by their ids, else by the text."""
    ids = re.search(_IDS.format(side), said)
    if ids and ids[1].strip():
        return {f"{side}_tokens": ids[1].count(",") + 1}
    shown = text.search(said)
    if shown is None:
        return {}
    notes[TEXT] = None
    return {f"{side}_tokens": math.ceil(len(shown[1] or shown[2] or "") / CHARACTERS_PER_TOKEN)}
