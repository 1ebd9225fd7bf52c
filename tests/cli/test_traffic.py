"""`loratwin traffic`: what is in a trace."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.program import loratwin

BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,0,1087,API log
118,GPT-4,417,276,693,Conversation log
"""


def test_a_trace_is_shown(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(BURST)
    done = loratwin("traffic", "show", "b.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "burstgpt (BurstGPT)" in done.stdout
    assert "prompt tokens  889, 444.5 each (of all rows 1,976)" in done.stdout
    assert "last arrival   118 s\n" in done.stdout
    assert "note: 1 of 3 rows left out: failed (Response tokens 0)" in done.stdout
    facts = json.loads(loratwin("traffic", "show", "b.csv", "--json", "--column", "adapter=model", cwd=tmp_path).stdout)
    assert (facts["rows"], facts["requests"], facts["output_tokens"]) == (3, 2, 294)
    assert facts["adapters"] == {"ChatGPT": 1, "GPT-4": 1}


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(BURST)
    for arguments, message in (
        (["absent.csv"], "absent.csv: cannot be read"),
        (["b.csv", "--format", "burst"], "unknown format of traces 'burst'"),
        (["b.csv", "--column", "adapter=Modell"], "has no column 'Modell'; did you mean 'Model'"),
        (["b.csv", "--column", "model"], "column 'model': expected one of time, prompt"),
        (["b.csv", "--unit", "h"], "unit 'h': expected one of s, ms"),
        (["b.csv", "--unfit", "drop"], "unfit 'drop': expected refuse, skip or clip"),
        (["b.csv", "--unfit", "refuse"], "line 3, Response tokens: '0', must be a whole number"),
    ):
        done = loratwin("traffic", "show", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_what_a_trace_leaves_out_is_said_with_the_results(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(BURST)
    (tmp_path / "w.yaml").write_text(
        "window_s: 60\ngroups:\n  - {name: g, count: 2, arrivals: {kind: replay, path: b.csv}}\n"
    )
    profile = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
    done = loratwin("simulate", "w.yaml", "--profile", profile, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "b.csv: 1 of 3 rows left out: failed (Response tokens 0)" in done.stdout
    assert "b.csv: 1 requests lie outside the window: the trace has 2 from 5 to 118 s" in done.stdout
