"""The forms of traces that are known by name: what their columns are called, and what they mean.

Names of columns are compared without case, spaces, dashes and underscores (`plain`).

Sources: the datasets' own descriptions. Azure: AzureLLMInferenceDataset2023.md, ...2024.md and
AzureLMMInferenceDataset2025.md (Azure/AzurePublicDataset). BurstGPT: README of HPMLL/BurstGPT. Mooncake:
FAST25-release/traces (kvcache-ai/Mooncake). Bailian: README of alibaba-edu/qwen-bailian-usagetraces-anon, as
AIPerf's tutorial on them tells it. Vidur: data/processed_traces (microsoft/vidur). Splitwise: traces of
splitwise-sim. LLMServingSim: dataset/*.tsv and workloads/*.jsonl (casys-kaist/LLMServingSim). AIBrix:
benchmarks/generator (vllm-project/aibrix). vLLM: custom and ShareGPT datasets of `vllm bench serve`. LiteLLM:
StandardLoggingPayload, and the table LiteLLM_SpendLogs. OpenAI: usage of answers, and output files of batches;
OpenTelemetry: attributes of generative AI (gen_ai.*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from loratwin.errors import UnknownNameError

ROLES = ("time", "prompt", "output", "adapter", "status", "blocks")
"""What a column can be."""


class Format(NamedTuple):
    """Columns of a form, in the order in which they are looked for; an empty tuple: it has none."""

    name: str
    title: str
    time: tuple[str, ...]
    prompt: tuple[str, ...]
    output: tuple[str, ...]
    unit: str | None = None
    """Of the time: s, ms, us, ns, timestamp; None: told by how the cells look."""
    needs: tuple[str, ...] = ("time", "prompt", "output")
    """Roles without which a file is not of this form."""
    adapter: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    block_tokens: int = 512
    strict: bool = False
    """Whether a request without tokens is a slip (else it is a failed one, and left out)."""
    beside: tuple[str, ...] = ()
    """Further columns without which a file is not of this form."""
    failed: str = "without prompt or output tokens"
    """Why a row without tokens is left out."""
    output_optional: bool = False
    """Whether outputs may be unknown of all requests (else such a request is a failed one)."""


_LOGGED_AT = (
    "time", "timestamp", "created", "created_at", "ts", "@timestamp", "request_time", "start_time", "datetime",
    "time_iso8601", "request_timestamp", "request_created_at", "received_at", "requested_at", "request.timestamp",
    "request.created_at", "response.created", "response.created_at", "response.body.created", "date",
)  # fmt: skip
"""What logs call the time of a request; before all others where they have several."""
_ADAPTERS = ("lora_name", "adapter", "lora", "adapter_name", "lora_adapter", "adapter_id", "lora_id")

OURS = Format(
    "loratwin", "loratwin's own", ("arrival_s",), ("prompt_tokens",), ("output_tokens",), "s", ("time",), ("adapter",),
    strict=True,
)  # fmt: skip

FORMATS = (
    OURS,
    Format("azure", "Azure LLM inference traces", ("TIMESTAMP",), ("ContextTokens",), ("GeneratedTokens",)),
    Format(
        "burstgpt", "BurstGPT", ("Timestamp",), ("Request tokens",), ("Response tokens",),
        failed="failed (Response tokens 0)",
    ),
    Format(
        "bailian", "Bailian's usage traces", ("timestamp",), ("input_length",), ("output_length",), "s",
        blocks=("hash_ids",), block_tokens=16, beside=("parent_chat_id",),
    ),
    Format(
        "mooncake", "Mooncake", ("timestamp",), ("input_length",), ("output_length",), "ms",
        adapter=("lora_name", "adapter"), blocks=("hash_ids",),
    ),
    Format("vidur", "Vidur", ("arrived_at",), ("num_prefill_tokens",), ("num_decode_tokens",), None,
           ("prompt", "output")),
    Format("splitwise", "splitwise-sim", ("arrival_timestamp",), ("prompt_size",), ("token_size",)),
    Format("llmservingsim", "LLMServingSim", ("arrival_time_ns",), ("input_toks",), ("output_toks",), "ns"),
    Format(
        "litellm", "LiteLLM's logs", ("startTime", "start_time", "standard_logging_object.startTime"),
        ("prompt_tokens", "standard_logging_object.prompt_tokens"),
        ("completion_tokens", "standard_logging_object.completion_tokens"),
        adapter=("model", "model_group", "standard_logging_object.model"),
        status=("status", "standard_logging_object.status"),
    ),
    Format(
        "openai", "OpenAI-style logs",
        _LOGGED_AT,
        ("prompt_tokens", "usage.prompt_tokens", "response.usage.prompt_tokens", "body.usage.prompt_tokens",
         "response.body.usage.prompt_tokens", "usage.input_tokens", "response.usage.input_tokens", "input_tokens",
         "num_prompt_tokens", "tokens_prompt", "gen_ai.usage.input_tokens", "attributes.gen_ai.usage.input_tokens"),
        ("completion_tokens", "usage.completion_tokens", "response.usage.completion_tokens",
         "body.usage.completion_tokens", "response.body.usage.completion_tokens", "usage.output_tokens",
         "response.usage.output_tokens", "output_tokens", "num_generation_tokens", "tokens_completion",
         "gen_ai.usage.output_tokens", "attributes.gen_ai.usage.output_tokens"),
        adapter=(*_ADAPTERS, "model", "request.model", "response.model", "body.model",
                 "response.body.model", "gen_ai.request.model", "attributes.gen_ai.request.model"),
        status=("status", "status_code", "response.status", "response.status_code", "http_status"),
    ),
    Format("aibrix", "AIBrix workloads", ("timestamp",), ("prompt_length",), ("output_length",), "ms", ("time",),
           adapter=("model",), output_optional=True),
    Format("sharegpt", "ShareGPT conversations", (), ("prompt",), ("output",), needs=("prompt", "output")),
    Format(
        "plain", "usual names",
        ("arrival_time", "arrival", "arrived_at", "arrival_timestamp", "timestamp", "tstamp", "time", *_LOGGED_AT[2:]),
        ("prompt_tokens", "input_tokens", "prompt_len", "prompt_length", "input_len", "input_length", "context_tokens",
         "num_prompt_tokens", "num_input_tokens", "num_input", "prompt_size"),
        ("completion_tokens", "output_tokens", "output_len", "output_length", "generated_tokens", "decode_len",
         "num_output_tokens", "num_generated_tokens", "num_output", "token_size"),
        needs=("prompt", "output"), adapter=(*_ADAPTERS, "model"),
    ),
    Format("custom", "vLLM's custom dataset", (), ("prompt",), ("output_tokens",), needs=("prompt",)),
)  # fmt: skip
"""In the order in which a file is compared with them."""

NESTED = {"aibrix": "requests", "sharegpt": "conversations"}
"""Forms known by a key that holds a list, and that key."""


def format_names() -> list[str]:
    """Names of all forms."""
    return [form.name for form in FORMATS]


def format_named(name: str) -> Format:
    """A form by its name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    for form in FORMATS:
        if form.name == name:
            return form
    raise UnknownNameError("format of traces", name, format_names())


def plain(name: str) -> str:
    """A column's name without what people write differently: `Request tokens`, `request_tokens`."""
    return re.sub(r"[\s_\-]", "", name).lower()


def columns_of(form: Format, header: Iterable[str]) -> dict[str, str]:
    """Which column of a file has which role in this form."""
    by_plain: dict[str, str] = {}
    for name in header:
        by_plain.setdefault(plain(name), name)
    found = {role: _first(getattr(form, role), by_plain) for role in ROLES}
    if found["time"] is None and form.unit is None:
        found["time"] = _first(form.time, {plain(_UNIT_BEHIND.sub("", name)): name for name in by_plain.values()})
    return {role: name for role, name in found.items() if name is not None}


_UNITS = {"s": ("s", "sec", "secs", "seconds"), "ms": ("ms", "msec", "millis", "milliseconds"),
          "us": ("us", "usec", "micros", "microseconds"), "ns": ("ns", "nsec", "nanos", "nanoseconds")}  # fmt: skip
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_UNIT_BEHIND = re.compile(
    rf"(?:[\s_.\-]*[\[(]|[\s_.\-]+)(?i:({'|'.join(_UNIT_OF)}))[\])]?\s*$"
    rf"|(?<=[a-z])({'|'.join(word.capitalize() for word in _UNIT_OF if len(word) > 1)})$"
)


def unit_in_name(column: str) -> str | None:
    """The unit that a column's name ends on, as `timestamp_ms`, `arrivalNs` or `time (s)`; None: it ends on none."""
    match = _UNIT_BEHIND.search(column)
    return _UNIT_OF[(match[1] or match[2]).lower()] if match else None


def recognised(header: Iterable[str]) -> Format | None:
    """The form that has such columns; None: none."""
    names = list(header)
    plains = {plain(name) for name in names}
    for form in FORMATS:
        if form.name in NESTED:
            if NESTED[form.name] in plains:
                return form
        elif has_beside(form, names) and set(form.needs) <= columns_of(form, names).keys():
            return form
    return None


def has_beside(form: Format, header: Iterable[str]) -> bool:
    """Whether the columns that tell a form from one with the same roles are there."""
    return {plain(name) for name in form.beside} <= {plain(name) for name in header}


def _first(names: tuple[str, ...], by_plain: dict[str, str]) -> str | None:
    return next((by_plain[plain(name)] for name in names if plain(name) in by_plain), None)
