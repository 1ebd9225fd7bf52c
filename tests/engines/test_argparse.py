"""Arguments are read as argparse reads them: one with the engine's options on random words, and a real vLLM's."""

from __future__ import annotations

import argparse
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.engine import Engine
from loratwin.engines.options import Option, Takes
from loratwin.engines.registry import ENGINES, find_engine
from tests.vllm_cpu import needs_vllm, server_env, vllm_python

VALUES = ("1", "7", "x", "a=b", "-1", "auto", "8k")


def argparser(kind: Engine) -> argparse.ArgumentParser:
    """The engine's table as an argparse."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("alone", nargs="?")
    for field, option in kind.options.items():
        if option.takes is Takes.NOTHING:
            parser.add_argument(*option.names, dest=field, action=argparse.BooleanOptionalAction)
        else:
            more: dict[Takes, dict[str, Any]] = {
                Takes.VALUES: {"nargs": "+"},
                Takes.VALUE_OR_NOTHING: {"nargs": "?", "const": ""},
            }
            parser.add_argument(*option.names, dest=field, **more.get(option.takes, {}))
    return parser


@st.composite
def written(draw: st.DrawFn, option: Option) -> list[str]:
    """An option, spelled in one of the ways that people do."""
    name = draw(st.sampled_from((*option.names, *option.off)))
    if name.startswith("--"):
        name = name[: draw(st.integers(min(len(name), 8), len(name)))]
        name = "--" + draw(st.sampled_from((name[2:], name[2:].replace("-", "_"))))
    if option.takes is Takes.NOTHING:
        return [name]
    values = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=2 if option.takes is Takes.VALUES else 1))
    return [f"{name}={values[0]}"] if draw(st.booleans()) else [name, *values]


def words_of(kind: Engine) -> st.SearchStrategy[list[str]]:
    options = st.one_of([written(option) for option in kind.options.values()])
    return st.lists(options, max_size=5).map(lambda parts: [word for part in parts for word in part])


def found(arguments: ServerArguments) -> dict[str, Any]:
    fields = arguments.engine.options.items()
    return {
        field: arguments.is_on(field) if option.takes is Takes.NOTHING else arguments.text(field)
        for field, option in fields
        if field in arguments and field != "model"
    }


def expected(parser: argparse.ArgumentParser, words: list[str]) -> dict[str, Any] | None:
    """None: argparse refuses."""
    hyphens = [
        w.partition("=")[0].replace("_", "-") + w[len(w.partition("=")[0]) :] if w[:2] == "--" else w for w in words
    ]
    try:
        parsed, others = parser.parse_known_args(hyphens)
    except (argparse.ArgumentError, SystemExit):
        return None
    if others:
        return None
    values = {
        name: value for name, value in vars(parsed).items() if value is not None and name not in ("alone", "model")
    }
    return {name: " ".join(value) if isinstance(value, list) else value for name, value in values.items()}


@pytest.mark.parametrize("name", list(ENGINES))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_as_argparse_with_the_engines_options(name: str, data: st.DataObject) -> None:
    kind = find_engine(name)
    words = data.draw(words_of(kind))
    right = expected(argparser(kind), words)
    if right is not None:  # what it refuses, the server refuses
        assert found(ServerArguments(kind, words)) == right


FIELDS = ("max_loras", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel", "quantization", "enable_lora",
          "enforce_eager", "fully_sharded_loras", "kv_cache_dtype", "dtype", "port", "lora_modules")  # fmt: skip
SCRIPT = """
import json, sys
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.launchers.cli_args import make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
for line in sys.stdin:
    try:
        found = vars(parser.parse_args(json.loads(line)))
        print("FOUND", json.dumps({"model": found["model_tag"] or found["model"]} | {n: found[n] for n in NAMES}))
    except SystemExit:
        print("FOUND null")
"""
LINES = (
    "tiny --enable-lora --max_loras=4 -tp 2 --max-num-b 100", "--model tiny --max-loras 4 --max-loras 8",
    "--enable-lora tiny --no-enable-lora", "tiny -q=fp8 --kv-cache-dtype fp8 --enforce-eager", "tiny -qfp8 --port 3",
    "tiny --max-num-seqs 8 --dtype=float16 --fully_sharded_loras", "tiny --max-lora 3", "tiny --no-enforce-eager",
)  # fmt: skip


@needs_vllm
def test_as_a_real_vllm() -> None:
    kind = find_engine("vllm")
    names = {field: kind.options[field].name[2:].replace("-", "_") for field in FIELDS[:-1]}
    given_to = "\n".join(json.dumps(line.split()) for line in LINES)
    done = subprocess.run(
        [vllm_python(), "-c", f"NAMES = {list(names.values())}\n{SCRIPT}"],
        input=given_to, capture_output=True, text=True, env=server_env(), check=True,
    )  # fmt: skip
    answers = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert len(answers) == len(LINES)
    for line, answer in zip(LINES, answers, strict=True):
        ours = ServerArguments(kind, line)
        if answer is None:
            assert ours._problems()
            continue
        assert ours.model == answer["model"]
        for field, name in names.items():
            if field in ours:
                assert ours.value(field) == answer[name], (line, field)
