"""What files of people have and examples do not: units in names, NaN, prefixes, archives, lines that are no request."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loratwin.errors import InputError
from loratwin.traces import Trace, read_trace, reading

RNG = np.random.default_rng(8)
NUM = 40
TIME_S = np.round(np.cumsum(RNG.exponential(2.0, NUM)), 3)
PROMPT = RNG.integers(1, 3000, NUM)
OUTPUT = RNG.integers(1, 400, NUM)
MODELS = np.array(["a", "b"])[RNG.integers(0, 2, NUM)]
EPOCH_S = 1_700_000_000


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(folder: Path, data: str | bytes, name: str = "trace", **how: Any) -> Trace:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return read_trace(folder / name, reading(**how)) if how else read_trace(folder / name)


def assert_all(trace: Trace) -> None:
    """Sums and times are those of all rows."""
    assert trace.facts.requests == NUM
    assert (trace.prompt_tokens.sum(), trace.output_tokens.sum()) == (PROMPT.sum(), OUTPUT.sum())
    assert trace.arrival_s[-1] - trace.arrival_s[0] == pytest.approx(TIME_S[-1] - TIME_S[0], abs=2e-6)


def packed(name: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


AZURE = frame(
    TIMESTAMP=[f"{pd.Timestamp(EPOCH_S + t, unit='s'):%Y-%m-%d %H:%M:%S.%f}" for t in TIME_S],
    ContextTokens=PROMPT,
    GeneratedTokens=OUTPUT,
)
USED = [
    {"prompt_tokens": int(p), "completion_tokens": int(o), "prompt_tokens_details": None}
    for p, o in zip(PROMPT, OUTPUT, strict=True)
]
SHAPES: dict[str, Callable[[], str | bytes]] = {
    "a zip of one file": lambda: packed("data/trace.csv", AZURE.to_csv(index=False)),
    "milliseconds by name": lambda: frame(
        timestamp_ms=TIME_S * 1e3, input_tokens=PROMPT, output_tokens=OUTPUT
    ).to_csv(),
    "nanoseconds by name": lambda: frame(
        **{"arrival (ns)": (TIME_S * 1e9).round().astype(np.int64), "input_length": PROMPT, "output_length": OUTPUT}
    ).to_csv(),
    "in camel case": lambda: lines(
        [
            {"startTimeMs": t * 1e3, "promptTokens": int(p), "completionTokens": int(o)}
            for t, p, o in zip(TIME_S, PROMPT, OUTPUT, strict=True)
        ]
    ),
    "since 1970 whatever the name says": lambda: frame(
        time_s=((EPOCH_S + TIME_S) * 1e3).round().astype(np.int64), input_tokens=PROMPT, output_tokens=OUTPUT
    ).to_csv(),
    "scientific numbers": lambda: frame(
        Timestamp=[f"{t:.9e}" for t in TIME_S],
        **{"Request tokens": [f"{p:.6e}" for p in PROMPT], "Response tokens": [f"{o:.4E}" for o in OUTPUT]},
    ).to_csv(index=False),
    "times of web servers": lambda: lines(
        [
            {"time": f"[{pd.Timestamp(EPOCH_S + round(t), unit='s'):%d/%b/%Y:%H:%M:%S} +0000]", "usage": used}
            for t, used in zip(TIME_S, USED, strict=True)
        ]
    ),
    "output of a batch": lambda: lines(
        [
            {
                "custom_id": str(i), "error": None,
                "response": {"status_code": 200, "body": {"created": EPOCH_S + t, "model": m, "usage": used}},
            }
            for i, (t, m, used) in enumerate(zip(TIME_S, MODELS, USED, strict=True))
        ]
    ),
    "OpenTelemetry": lambda: lines(
        [
            {
                "timestamp": round((EPOCH_S + t) * 1e9), "gen_ai.request.model": m,
                "gen_ai.usage.input_tokens": int(p), "gen_ai.usage.output_tokens": int(o),
            }
            for t, m, p, o in zip(TIME_S, MODELS, PROMPT, OUTPUT, strict=True)
        ]
    ),
    "lines of no request among them": lambda: lines(
        [
            {"level": "info", "msg": "started"},
            *({"time": EPOCH_S + t, "model": m, "usage": used, "stream": i % 2 == 0}
              for i, (t, m, used) in enumerate(zip(TIME_S, MODELS, USED, strict=True))),
            {"level": "warn", "msg": "slow", "usage": None},
        ]
    ),
    "one page of LiteLLM's spend": lambda: json.dumps(
        {
            "total": NUM, "page": 1,
            "data": [
                {"startTime": f"{pd.Timestamp(EPOCH_S + t, unit='s').isoformat()}+00:00", "model": m,
                 "prompt_tokens": used["prompt_tokens"], "completion_tokens": used["completion_tokens"],
                 "status": "success", "cache_hit": "None", "metadata": {}}
                for t, m, used in zip(TIME_S, MODELS, USED, strict=True)
            ],
        }
    ),
    "AIBrix, pretty": lambda: "\n".join(
        json.dumps(
            {"timestamp": t * 1e3, "requests": [{"prompt": "x", "prompt_length": int(p), "output_length": int(o)}]},
            indent=2,
        )
        for t, p, o in zip(TIME_S, PROMPT, OUTPUT, strict=True)
    ),
    "a spreadsheet's": lambda: "sep=;\r\n" + frame(
        time=TIME_S, adapter_name=MODELS, num_input_tokens=PROMPT, num_output_tokens=OUTPUT
    ).to_csv(index=False, sep=";", lineterminator="\r\n"),
    "units in the cells": lambda: frame(
        timestamp=[f"{t}s" if i % 2 else f"{t * 1e3} ms" for i, t in enumerate(TIME_S)],
        input_tokens=PROMPT, output_tokens=OUTPUT,
    ).to_csv(index=False),
    "pandas' own JSON": lambda: AZURE.to_json(orient="records", lines=True),
    "statuses as pandas writes them": lambda: pd.concat(
        [
            frame(time=EPOCH_S + TIME_S, prompt_tokens=PROMPT, completion_tokens=OUTPUT, status=200.0),
            frame(time=[EPOCH_S + 1.0], prompt_tokens=[9], completion_tokens=[9], status=[503.0]),
        ]
    ).to_csv(index=False),
    "statuses in words": lambda: frame(
        time=EPOCH_S + TIME_S, prompt_tokens=PROMPT, completion_tokens=OUTPUT,
        status=np.array(["200 OK", "HTTP/1.1 200 OK", "length", "tool_calls"])[np.arange(NUM) % 4],
    ).to_csv(index=False),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_is_read(tmp_path: Path, shape: str) -> None:
    trace = read(tmp_path, SHAPES[shape]())
    if shape == "times of web servers":
        assert trace.arrival_s[-1] == round(TIME_S[-1]) - round(TIME_S[0])
        assert trace.facts.prompt_tokens == PROMPT.sum()
        return
    assert_all(trace)
    if trace.adapter is not None:
        assert set(trace.facts.adapters) == {"a", "b"}


def test_zstd_is_unpacked(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.OSFile(str(tmp_path / "packed"), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as stream:
        stream.write(AZURE.to_csv(index=False).encode())
    assert_all(read_trace(tmp_path / "packed"))


def test_structures_of_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = frame(created=EPOCH_S + TIME_S, request=[{"model": m} for m in MODELS], usage=USED)
    table.to_parquet(tmp_path / "log.parquet")
    trace = read_trace(tmp_path / "log.parquet")
    assert_all(trace)
    assert set(trace.facts.adapters) == {"a", "b"}


def test_a_zip_of_several_files_is_refused_with_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("code.csv", "conv.csv"):
            archive.writestr(name, "x")
    with pytest.raises(InputError, match=r"a zip archive of 2 files \(code.csv, conv.csv\); unpack the one"):
        read_trace(tmp_path / "a.zip")


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "NA", "null", "None", "N/A", "-", "<NA>"])
def test_what_stands_for_nothing_is_no_tokens(tmp_path: Path, nothing: str) -> None:
    """Failed requests of BurstGPT as other tools write them on; pandas leaves such cells out of its sums, too."""
    rows = [f"{t},{p},{o}" for t, p, o in zip(TIME_S, PROMPT, OUTPUT, strict=True)]
    text = "\n".join(["Timestamp,Request tokens,Response tokens", *rows, f"999,50,{nothing}"])
    facts = read(tmp_path, text).facts
    assert facts.left_out == {"failed (Response tokens 0)": 1}
    assert (facts.requests, facts.output_tokens) == (NUM, OUTPUT.sum())
    assert facts.rows_prompt_tokens == PROMPT.sum() + 50


def test_nan_of_json_is_nothing(tmp_path: Path) -> None:
    records = [{"created": EPOCH_S + i, "model": "a", "usage": {"prompt_tokens": 3.0, "completion_tokens": 2.0}}
               for i in range(3)]  # fmt: skip
    records[1]["usage"] = {"prompt_tokens": float("nan"), "completion_tokens": float("nan")}
    facts = read(tmp_path, lines(records)).facts
    assert (facts.requests, facts.prompt_tokens, facts.left_out) == (2, 6, {"without prompt or output tokens": 1})


def test_outputs_that_nobody_knows(tmp_path: Path) -> None:
    """AIBrix without completions: prompts and times are a trace all the same."""
    records = [{"timestamp": 1000 * i, "requests": [{"prompt": "x" * 8, "prompt_length": n, "output_length": None}]}
               for i, n in enumerate((5, None, 7))]  # fmt: skip
    trace = read(tmp_path, lines(records))
    assert trace.output_tokens is None and trace.prompt_tokens.tolist() == [5, 2, 7]
    assert trace.arrival_s.tolist() == [0, 1, 2] and trace.facts.left_out == {}
    records[1]["requests"] = [{"prompt": "x", "prompt_length": 4, "output_length": 9, "completion": "y"}]
    trace = read(tmp_path, lines(records))
    assert trace.output_tokens.tolist() == [9] and trace.facts.left_out == {"without prompt or output tokens": 2}


def test_tables_of_lengths_alone(tmp_path: Path) -> None:
    """As ServeGen's traces of batches are; a log whose time has a name that nobody knows is told so when it is used."""
    records = [{"request_id": i, "input_length": 3 + i, "output_length": 5, "duration": 9} for i in range(3)]
    trace = read(tmp_path, lines(records))
    assert trace.arrival_s is None and trace.prompt_tokens.tolist() == [3, 4, 5]
    assert read(tmp_path, lines(records), columns=["time=request_id"]).arrival_s.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'INFO:     172.17.0.1:5 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n' * 3,
            "is an access log of HTTP, which tells no tokens",
        ),
        (
            '1.2.3.4 - - [16/Nov/2023:18:15:46 +0000] "POST /v1/completions HTTP/1.1" 200 512 "-" "curl"\n',
            "is an access log of HTTP",
        ),
        ('[[["prompt", 5, 7, null]]]', "has no requests: it holds no records with named fields"),
        ('{"a": 1}\n', "is of no form that is known"),
    ],
)
def test_what_is_no_trace_is_told_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_request_is_one_whatever_it_holds(tmp_path: Path) -> None:
    """Its prompt as text, or a list of parts, do not make it several, nor its lengths estimates."""
    records = [
        {"time": EPOCH_S + i, "model": "a", "prompt": "x" * 400, "data": [{"part": 1}, {"part": 2}],
         "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
        for i in range(3)
    ]  # fmt: skip
    facts = read(tmp_path, lines(records)).facts
    assert (facts.rows, facts.prompt_tokens, facts.output_tokens, facts.notes) == (3, 21, 15, ())


@pytest.mark.parametrize("startup", [1, 200])
def test_a_log_with_what_a_program_says_beside_it(tmp_path: Path, startup: int) -> None:
    """A banner, many lines before the first request, and text between: counted, and no request."""
    requests = [
        json.dumps({"ts": EPOCH_S + t, "model": m, "usage": used})
        for t, m, used in zip(TIME_S, MODELS, USED, strict=True)
    ]
    said = [json.dumps({"level": "info", "msg": f"loading {i}"}) for i in range(startup)]
    text = "\n".join(["Gateway 2.1", *said, *requests[:20], "Traceback (most recent call last):", *requests[20:]])
    trace = read(tmp_path, text)
    assert_all(trace)
    assert trace.facts.left_out == {"without prompt or output tokens": startup + 1}
    with pytest.raises(InputError, match=f"line {startup + 3} is not JSON"):
        read(tmp_path, "\n".join(["Gateway 2.1", *said, requests[0], requests[1][:-9]]))
