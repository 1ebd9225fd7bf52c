"""Traces in the forms that others publish: sums and times as pandas has them, whatever the file looks like."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loratwin.errors import InputError
from loratwin.traces import FORMATS, Reading, read_trace

RNG = np.random.default_rng(5)
NUM = 300
TIME_S = np.round(np.cumsum(RNG.exponential(2.0, NUM)), 7)
PROMPT = RNG.integers(1, 3000, NUM)
OUTPUT = RNG.integers(1, 400, NUM)
START = datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=timezone.utc)
MODELS = np.array(["tenant-a", "tenant-b", "tenant-c"])[RNG.integers(0, 3, NUM)]


def stamps(form: str = "%Y-%m-%d %H:%M:%S.%f", tail: str = "0", zone: Any = timezone.utc) -> list[str]:
    moments = [(START + timedelta(seconds=float(time))).astimezone(zone) for time in TIME_S]
    return [moment.strftime(form) + tail for moment in moments]


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


AZURE = table(TIMESTAMP=stamps(), ContextTokens=PROMPT, GeneratedTokens=OUTPUT)
BURST = pd.DataFrame(
    {
        "Timestamp": TIME_S.round().astype(int),
        "Model": np.where(MODELS == "tenant-a", "GPT-4", "ChatGPT"),
        "Request tokens": PROMPT,
        "Response tokens": OUTPUT,
        "Total tokens": PROMPT + OUTPUT,
        "Log Type": "Conversation log",
    }
)
VIDUR = table(arrived_at=TIME_S, num_prefill_tokens=PROMPT, num_decode_tokens=OUTPUT)
MOONCAKE = [
    {"timestamp": round(t * 1000), "input_length": int(p), "output_length": int(o), "hash_ids": [0, i, i + 1]}
    for i, (t, p, o) in enumerate(zip(TIME_S, PROMPT, OUTPUT, strict=True))
]
SIM = [
    {"input_toks": int(p), "output_toks": int(o), "arrival_time_ns": round(t * 1e9), "input_tok_ids": [1] * int(p % 9)}
    for t, p, o in zip(TIME_S, PROMPT, OUTPUT, strict=True)
]
AIBRIX = [
    {
        "timestamp": round(t * 1000),
        "requests": [{"prompt": "words", "prompt_length": int(p), "output_length": int(o), "model": m}],
    }
    for t, p, o, m in zip(TIME_S, PROMPT, OUTPUT, MODELS, strict=True)
]
OPENAI = [
    {
        "id": f"cmpl-{i}",
        "created": START.timestamp() + t,
        "model": m,
        "usage": {"prompt_tokens": int(p), "completion_tokens": int(o), "total_tokens": int(p + o)},
    }
    for i, (t, p, o, m) in enumerate(zip(TIME_S, PROMPT, OUTPUT, MODELS, strict=True))
]
LITELLM = [
    {
        "request_id": str(i),
        "call_type": "acompletion",
        "startTime": t,
        "endTime": t,
        "model": m,
        "prompt_tokens": int(p),
        "completion_tokens": int(o),
        "total_tokens": int(p + o),
        "status": "success",
        "metadata": {"user": None},
    }
    for i, (t, p, o, m) in enumerate(zip(stamps("%Y-%m-%dT%H:%M:%S.%f", "Z"), PROMPT, OUTPUT, MODELS, strict=True))
]


def csv(frame: pd.DataFrame, **options: Any) -> bytes:
    return frame.to_csv(**{"index": False, **options}).encode()


def lines(records: list[Any]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode() + b"\n"


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sample(frac=1, random_state=1)


def parquet(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_parquet())


KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "azure 2023": ("azure", lambda: csv(AZURE)),
    "azure 2023, Windows": ("azure", lambda: b"\xef\xbb\xbf" + csv(AZURE, lineterminator="\r\n")),
    "azure 2024": ("azure", lambda: csv(AZURE.assign(TIMESTAMP=stamps(tail="+00:00")))),
    "azure 2024, elsewhere": (
        "azure",
        lambda: csv(AZURE.assign(TIMESTAMP=stamps(tail="-07:00", zone=timezone(timedelta(hours=-7))))),
    ),
    "azure 2024, Z": ("azure", lambda: csv(AZURE.assign(TIMESTAMP=stamps("%Y-%m-%dT%H:%M:%S.%f", "Z")))),
    "azure 2025": (
        "azure",
        lambda: gzip.compress(
            csv(AZURE.assign(NumImages=1)[["TIMESTAMP", "NumImages", "ContextTokens", "GeneratedTokens"]])
        ),
    ),
    "azure, unsorted, index first": ("azure", lambda: csv(shuffled(AZURE), index=True)),
    "azure, other case": (
        "azure",
        lambda: csv(
            AZURE.rename(
                columns={
                    "TIMESTAMP": "timestamp",
                    "ContextTokens": " context_tokens",
                    "GeneratedTokens": "Generated Tokens",
                }
            )
        ),
    ),
    "azure, floats": ("azure", lambda: csv(AZURE.assign(ContextTokens=PROMPT * 1.0))),
    "azure, empty lines": ("azure", lambda: csv(AZURE).replace(b"\n", b"\n\n").replace(b"\n\n", b"\n \n", 3)),
    "azure, all quoted": ("azure", lambda: csv(AZURE, quoting=1)),
    "azure, semicolons, UTF-16": ("azure", lambda: csv(AZURE, sep=";").decode().encode("utf-16")),
    "azure, parquet": ("azure", lambda: parquet(AZURE.assign(TIMESTAMP=pd.to_datetime(AZURE.TIMESTAMP)))),
    "burstgpt": ("burstgpt", lambda: csv(BURST)),
    "burstgpt, no model": ("burstgpt", lambda: csv(BURST.drop(columns="Model"))),
    "burstgpt, sessions": (
        "burstgpt",
        lambda: csv(
            BURST.assign(**{"Session ID": PROMPT, "Elapsed time": 1.5})[["Timestamp", "Session ID", *BURST.columns[1:]]]
        ),
    ),
    "mooncake": ("mooncake", lambda: lines(MOONCAKE)),
    "mooncake, xz": ("mooncake", lambda: lzma.compress(lines(MOONCAKE))),
    "mooncake, a list": ("mooncake", lambda: json.dumps(MOONCAKE, indent=1).encode()),
    "bailian": (
        "bailian",
        lambda: lines(
            [
                row | {"timestamp": float(time), "chat_id": chat, "parent_chat_id": -1}
                for chat, (row, time) in enumerate(zip(MOONCAKE, TIME_S, strict=True))
            ]
        ),
    ),
    "vidur": ("vidur", lambda: csv(VIDUR)),
    "vidur, index, more columns": ("vidur", lambda: csv(VIDUR.assign(total=PROMPT + OUTPUT, pd_ratio=0.5), index=True)),
    "splitwise": (
        "splitwise",
        lambda: csv(
            table(
                request_id=range(NUM), request_type=2, application_id=0, arrival_timestamp=TIME_S, batch_size=1,
                prompt_size=PROMPT, token_size=OUTPUT,
            )
        ),
    ),
    "llmservingsim": ("llmservingsim", lambda: lines(SIM)),
    "llmservingsim, TSV": (
        "llmservingsim",
        lambda: csv(table(input_toks=PROMPT, output_toks=OUTPUT, arrival_time_ns=np.int64(TIME_S * 1e9)), sep="\t"),
    ),
    "aibrix": ("aibrix", lambda: lines(AIBRIX)),
    "openai": ("openai", lambda: lines(OPENAI)),
    "openai, CSV": (
        "openai",
        lambda: csv(
            table(timestamp=stamps(tail=""), model=MODELS, prompt_tokens=PROMPT, completion_tokens=OUTPUT, status=200)
        ),
    ),
    "usual names": (
        "plain",
        lambda: csv(table(arrival_time=TIME_S, input_len=PROMPT, output_len=OUTPUT, model=MODELS), index=True),
    ),
    "litellm": ("litellm", lambda: bz2.compress(lines(LITELLM))),
    "ours": (
        "loratwin",
        lambda: csv(table(arrival_s=TIME_S, adapter=MODELS, prompt_tokens=PROMPT, output_tokens=OUTPUT)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_times_are_those_of_pandas(tmp_path: Path, kind: str) -> None:
    name, make = KINDS[kind]
    path = tmp_path / "trace"
    path.write_bytes(make())
    trace = read_trace(path)
    assert trace.facts.format == name
    assert trace.facts.rows == trace.facts.requests == NUM
    assert trace.facts.prompt_tokens == trace.prompt_tokens.sum() == PROMPT.sum()
    assert trace.facts.output_tokens == trace.output_tokens.sum() == OUTPUT.sum()
    rounded = {"burstgpt": 0.5, "mooncake": 5e-4, "aibrix": 5e-4}.get(name, 2e-6)
    span = TIME_S[-1] - TIME_S[0]
    assert trace.facts.last_s - trace.facts.first_s == pytest.approx(span, abs=2 * rounded)
    assert np.all(np.diff(trace.arrival_s) >= 0)
    if trace.adapter is not None:
        assert {name: count for name, count in trace.facts.adapters.items()} == dict(
            zip(*(each.tolist() for each in np.unique(MODELS, return_counts=True)), strict=True)
        )


def test_every_form_is_in_the_list_above() -> None:
    rest = {"sharegpt", "custom"}  # these have no times
    assert {name for name, _ in KINDS.values()} | rest == {form.name for form in FORMATS}


def test_times_since_1970_begin_at_zero_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(OPENAI))
    trace = read_trace(path)
    assert trace.facts.first_s == 0 and trace.facts.origin.startswith("2023-11-16 18:15:50.6539")
    path.write_bytes(lines(MOONCAKE))
    assert read_trace(path).facts.first_s == pytest.approx(TIME_S[0], abs=1e-3)
    assert read_trace(path, Reading(shift=True)).facts.first_s == 0


def test_a_request_as_long_ago_in_milliseconds_micro_and_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for factor in (1, 1e3, 1e6, 1e9):
        records = [record | {"created": int(record["created"] * factor)} for record in OPENAI]
        path.write_bytes(lines(records))
        assert read_trace(path).facts.last_s == pytest.approx(TIME_S[-1] - TIME_S[0], abs=1.1 / factor + 1e-6)


def test_shared_blocks_stay_with_their_request(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines([MOONCAKE[2], MOONCAKE[0] | {"hash_ids": []}, MOONCAKE[1]]))
    blocks = read_trace(path).blocks
    assert blocks.tokens == 512
    assert blocks.offset.tolist() == [0, 0, 3, 6]
    assert blocks.block.tolist() == [0, 1, 2, 0, 2, 3]


def test_failed_requests_of_burstgpt_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = BURST.copy()
    frame.loc[10:19, "Response tokens"] = 0
    path = tmp_path / "b.csv"
    path.write_bytes(csv(frame))
    facts = read_trace(path).facts
    assert (facts.rows, facts.requests) == (NUM, NUM - 10)
    assert facts.rows_prompt_tokens == frame["Request tokens"].sum()
    assert facts.prompt_tokens == frame[frame["Response tokens"] > 0]["Request tokens"].sum()
    assert facts.changes == ("10 of 300 rows left out: failed (Response tokens 0)",)
    clipped = read_trace(path, Reading(unfit="clip"))
    assert clipped.facts.requests == NUM and sorted(clipped.output_tokens)[:10] == [1] * 10
    assert sum(clipped.facts.clipped.values()) == 10
    with pytest.raises(InputError, match="line 12, Response tokens: '0', must be a whole number"):
        read_trace(path, Reading(unfit="refuse"))


def test_failed_requests_of_logs_are_told_by_their_status(tmp_path: Path) -> None:
    records = [record | {"status": "failure" if i % 3 == 0 else "success"} for i, record in enumerate(LITELLM)]
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(records))
    facts = read_trace(path).facts
    assert facts.left_out == {"failed, by its status": 100} and facts.requests == 200


def test_a_mapping_names_columns_and_paths(tmp_path: Path) -> None:
    records = [
        {"when": {"us": round(t * 1e6)}, "in": int(p), "out": int(o), "who.am": {"i": m}}
        for t, p, o, m in zip(TIME_S, PROMPT, OUTPUT, MODELS, strict=True)
    ]
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(records))
    columns = (("time", "when.us"), ("prompt", "in"), ("output", "OUT"), ("adapter", "who.am.i"))
    trace = read_trace(path, Reading(columns=columns, unit="us"))
    assert trace.arrival_s == pytest.approx(TIME_S, abs=1e-6)
    assert (trace.facts.prompt_tokens, trace.facts.output_tokens) == (PROMPT.sum(), OUTPUT.sum())
    assert [trace.adapter_names[i] for i in trace.adapter] == MODELS.tolist()
    with pytest.raises(InputError, match=r"has no column 'inn'; did you mean 'in'\?"):
        read_trace(path, Reading(columns=(("time", "when.us"), ("prompt", "inn"))))


def test_lengths_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    turns = [{"from": "human", "value": "a" * 40}, {"from": "gpt", "value": "b" * 80}, {"from": "human", "value": "c"}]
    path.write_text(json.dumps([{"id": "x", "conversations": turns}, {"id": "y", "conversations": turns[:1]}]))
    trace = read_trace(path)
    assert trace.arrival_s is None
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([10], [20])
    assert "estimated" in trace.facts.notes[0]
    path.write_bytes(lines([{"prompt": "a" * 40, "output_tokens": 7}, {"prompt": "b" * 44, "output_tokens": 9}]))
    trace = read_trace(path)
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([10, 11], [7, 9])
    path.write_bytes(lines([{"prompt": "a" * 40}]))
    assert read_trace(path).output_tokens is None
    vidur = tmp_path / "v.csv"
    vidur.write_bytes(csv(VIDUR.drop(columns="arrived_at"), index=True))
    assert read_trace(vidur).arrival_s is None


def test_calls_of_an_agent_come_one_after_the_other(tmp_path: Path) -> None:
    calls = [{"input_toks": 5, "output_toks": 1, "tool_duration_ns": 2e9}, {"input_toks": 9, "output_toks": 2}]
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines([{"session_id": "s", "arrival_time_ns": 1e9, "sub_requests": calls}, SIM[0]]))
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == sorted([1.0, 3.0, SIM[0]["arrival_time_ns"] / 1e9])
    assert "tools" in trace.facts.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no requests"),
        ("{}\n", "is of no form that is known"),
        ('{"timestamp": 1, "input_length": 3}\n', "column 'output_length' is missing, which Mooncake have"),
        ('{"created": 1, "model": "a"}\n', "is of no form that is known"),
        ("[1, 2]", "has no requests"),
        ('{"a": 1}\n{"a":\n', "line 2 is not JSON"),
        ("a,b\n1,2\n", "is of no form that is known; say which column is what"),
        ('{"timestamp": -5, "input_length": 3, "output_length": 3}\n', "line 1, timestamp: must not be negative"),
        ('{"timestamp": null, "input_length": 3, "output_length": 3}\n', "line 1, timestamp: '' is not a"),
        (
            '{"timestamp": 1, "input_length": true, "output_length": 3}\n',
            "line 1, input_length: 'True' is not a number",
        ),
        ('{"timestamp": 1, "input_length": 0, "output_length": 3}\n', "has no requests that could be served: line 1"),
        ('{"timestamp": 1, "input_length": 3, "output_length": 3, "hash_ids": ["x"]}\n', "lists of whole numbers"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_trace(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_archives_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for start in (b"\x28\xb5\x2f\xfd", b"PK\x03\x04"):
        path.write_bytes(start + b"rest")
        with pytest.raises(InputError, match="cannot be read"):
            read_trace(path)
    path.write_bytes(gzip.compress(csv(AZURE))[:-40])
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)


def test_a_line_that_is_not_like_the_others_is_read_with_care(tmp_path: Path) -> None:
    rows = csv(AZURE).decode().splitlines()
    rows[200] = rows[200].replace(",", " ,", 1)  # a space after the time
    rows.insert(100, "")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows))
    assert read_trace(path).facts.prompt_tokens == PROMPT.sum()
    rows[150] = rows[150].replace(str(PROMPT[148]), "many")
    path.write_text("\n".join(rows))
    with pytest.raises(InputError, match="line 151, ContextTokens: 'many' is not a number"):
        read_trace(path)
    facts = read_trace(path, Reading(unfit="skip")).facts
    assert facts.requests == NUM - 1 and facts.changes == ("1 of 300 rows left out: ContextTokens is no number",)


def test_times_of_day_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_length,output_length\n2023-11-16 18:15:46,10,20\n2023-11-16 18:15:56,10,20\n")
    with pytest.raises(InputError, match="line 2, timestamp: '2023-11-16 18:15:46' is not a number"):
        read_trace(path)
    arrival_s = read_trace(path, Reading(unit="timestamp")).arrival_s
    assert arrival_s is not None and arrival_s.tolist() == [0.0, 10.0]


def test_adapters_that_look_like_numbers_are_names(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,adapter,prompt_tokens\n0,7,1\n1,007,2\n2,7,3\n")
    assert dict(read_trace(path).facts.adapters) == {"7": 2, "007": 1}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_archive_is_said(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    packed = pack("\n".join(["arrival_s", *(f"{at * 7919 % 100_003}" for at in range(20_000))]).encode())
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(packed[:200] + b"\xff" * 50 + packed[250:])
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(path)


@pytest.mark.parametrize(
    "data",
    [
        [{"conversations": [{"value": "a"}, {"value": "b"}]}, {"conversations": {"value": "a"}}],
        [{"timestamp": 0, "requests": [{"prompt_length": 1, "output_length": 1}, 7]}, {"timestamp": 1, "requests": 7}],
        [{"arrival_time_ns": None, "sub_requests": [{"input_toks": 1, "output_toks": 1}, 7]}],
    ],
)
def test_entries_of_another_kind_are_passed_over(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(data))
    assert read_trace(path).facts.requests == 1
