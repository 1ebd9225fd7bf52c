"""What is known of an LLM, as text."""

from __future__ import annotations

import textwrap

from loratwin.formatting import WIDTH, number
from loratwin.llms.facts import KindFacts, LlmFacts

MIB, GIB = 1 << 20, 1 << 30


def llm_text(facts: LlmFacts) -> str:
    """An LLM whole: parameters, bytes, kinds of layers, adapters, context, and what is known of its speed."""
    where = "" if facts.tensor_parallel == 1 else f", each of {facts.tensor_parallel} GPUs"
    lines = [
        f"{facts.name} ({facts.served_as}), {facts.engine}{where}",
        f"  parameters     {_billions(facts.parameters)}{_of_which(facts)}",
        f"  weights        {facts.weight_bytes / GIB:.2f} GiB, {facts.quantization or '16 bits'}",
        f"  KV per token   {facts.kv_bytes_per_token:,} bytes (numbers of {facts.kv_number_bytes:g} bytes)",
        f"  KV per request {_bytes(facts.kv_bytes_per_request)} at {facts.max_model_len:,} tokens{_states(facts)}",
        f"  context        {facts.max_model_len:,} tokens: {facts.context_rule}",
        "  layers",
        *(f"    {line}" for kind in facts.kinds for line in _kind_lines(kind)),
        f"  adapters       {_adapters(facts)}",
        "    a slot of rank " + ", ".join(f"{rank}: {_bytes(size)}" for rank, size in facts.lora_slot_bytes.items()),
        f"  speed          {_speed(facts)}",
    ]
    head, *rest = lines
    return "\n".join([head, *(part for line in rest for part in _wrapped(line))])


def _wrapped(line: str) -> list[str]:
    """A line that is too long, going on below its text; sentences are left to the terminal."""
    if line.startswith("    "):
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * 17, break_long_words=False, break_on_hyphens=False)


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} billion" if count >= 1e9 else f"{count / 1e6:.0f} million"


def _of_which(facts: LlmFacts) -> str:
    parts = []
    if facts.active_parameters + facts.vision_parameters != facts.parameters:
        parts.append(f"a token meets {_billions(facts.active_parameters)}")
    if facts.vision_parameters:
        parts.append(f"encoders have {_billions(facts.vision_parameters)}")
    if facts.draft_parameters:
        parts.append(f"draft layers of {_billions(facts.draft_parameters)} more are not loaded unless asked for")
    return "".join(f"; {part}" for part in parts)


def _bytes(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{number(count / MIB)} MiB"


def _states(facts: LlmFacts) -> str:
    return f", of which {_bytes(facts.state_bytes_per_request)} of states" if facts.state_bytes_per_request else ""


def _kind_lines(kind: KindFacts) -> list[str]:
    kept = [f"{kind.bytes_per_token:,} bytes a token"] if kind.bytes_per_token else []
    kept += [f"at most {_bytes(kind.bytes_per_request)} a request"] if kind.bytes_per_request else []
    weights = f"{_billions(kind.parameters)} parameters, {', '.join(kind.numbers) or '16 bits'}"
    return [
        f"{kind.count} x attention: {kind.attention}; feed-forward: {kind.feed_forward}",
        f"{' ' * len(str(kind.count))}   {weights}; keeps {' and '.join(kept) or 'nothing'}",
    ]


def _adapters(facts: LlmFacts) -> str:
    if not facts.lora_modules:
        return "none that this version knows"
    vocabulary = ", embedding and head" if facts.lora_on_vocabulary else ""
    return f"of {', '.join(facts.lora_modules)}{vocabulary}"


def _speed(facts: LlmFacts) -> str:
    if not facts.speed_unknown:
        return "can be assumed on any GPU of the table (loratwin profiles assume)"
    return f"not known: {facts.speed_unknown}; what it takes of memory is"
