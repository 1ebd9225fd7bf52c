"""What of a server's command line and environment says how it computes: kept in records, and given again by a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from loratwin.engines.arguments import ServerArguments

PLANNED = (
    "model", "lora_modules", "host", "port", "config", "enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank",
    "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "max_model_len", "tensor_parallel",
)  # fmt: skip
"""Options that a plan writes out, or that say where a server is; by the names that all engines share."""

_ELSEWHERE = re.compile(
    r"--(served-model-name|load-format|download-dir|api-key|hf-token|ssl-.*|uvicorn-.*|allowed-.*|root-path|"
    r"(en|dis)able-log-.*|no-enable-log-.*|max-log-len|disable-fastapi-docs)(?![\w-])"
)
"""Options that say nothing of how it computes: names, places, logs."""

_PROBE = "loratwin_vllm_probe"
"""In the values of options with which we have steps logged."""

_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_|$)", re.IGNORECASE)


def own_options(arguments: ServerArguments) -> tuple[str, ...]:
    """Options beside those that a plan writes out, each with its values as one text for a shell; no secrets."""
    left = arguments.without(*PLANNED).shown_parts
    return tuple(part for part in left if part.startswith("-") and not _ELSEWHERE.match(part) and _PROBE not in part)


def own_variables(environment: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """Environment variables that say how an engine computes, as NAME=value, in their order by name; no secrets.

    Parameters
    ----------
    environment
        All of the server's.
    names
        Regular expressions of whole names, as of `Engine.variables`.
    """
    chosen = (name for name in sorted(environment) if any(re.fullmatch(one, name) for one in names))
    return tuple(f"{name}={environment[name]}" for name in chosen if not _SECRET.search(name))
