"""Where the memory of a server goes, as text: a table, a bar, and whether it starts."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin.formatting import WIDTH, aligned, number
from loratwin.perf.sizing import ServerMemory

BAR_WIDTH = 72
"""Characters that stand for all of a GPU's memory."""

SIGNS = {"weights": "w", "slots": "s", "activations": "a", "graphs": "g", "other": "o", "KV cache": "K"}
"""What stands for a part in a bar."""


def memory_text(servers: Sequence[ServerMemory]) -> str:
    """Servers of the same GPU, LLM and version side by side; a bar and a verdict of each."""
    first = servers[0]
    each = "" if first.num_gpus == 1 else f", each of {first.num_gpus} GPUs"
    lines = [f"{first.llm} on {first.gpu} ({first.account.gpu_gib:g} GiB{each}), {first.engine}", ""]
    lines += _table([_column(server) for server in servers])
    for server in servers:
        lines += ["", *_verdict(server, named=len(servers) > 1)]
    lines += ["", "  " + ", ".join(f"{sign} {name}" for name, sign in SIGNS.items()) + ", . not filled"]
    lines.append("  in brackets 90 %; +-: a standard error")
    return "\n".join([*lines, *(f"note: {note}" for note in first.notes)])


def _column(server: ServerMemory) -> dict[str, str]:
    """Rows of a server by name."""
    account, config, capacity = server.account, server.config, server.account.capacity
    rows = {"slots x rank": f"{config.max_loras} x {config.max_lora_rank}" if config.max_loras else "none"}
    rows |= {f"{part.name}, GiB": _gib(part.gib, part.error_gib) for part in account.parts}
    rows["KV cache, GiB"] = f"{account.kv_gib:.2f} ({account.kv_low_gib:.2f} to {account.kv_high_gib:.2f})"
    rows["may be filled, GiB"] = f"{account.granted_gib:.2f} ({config.gpu_memory_utilization:g} of the memory)"
    rows |= {f"{part.name} beside it, GiB": _gib(part.gib, part.error_gib) for part in account.after if part.gib}
    rows["KV tokens"] = f"{capacity.tokens:,} ({capacity.low:,} to {capacity.high:,})"
    rows[f"requests of {account.max_model_len:,} tokens"] = number(account.concurrency)
    rows["starts"] = "yes" if capacity.starts else "no"
    return rows


def _gib(gib: float, error: float) -> str:
    return f"{gib:.2f}" + (f" +- {error:.2f}" if error >= 0.005 else "")


def _table(columns: Sequence[dict[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    return [f"  {line}" for line in aligned(rows, left=1, width=WIDTH - 2).split("\n")]


def memory_bar(server: ServerMemory) -> str:
    """All of a GPU's memory as a line of letters, a letter for each part; `.` is what the server may not fill."""
    account = server.account
    shares = [(SIGNS[part.name], part.gib) for part in account.parts] + [(SIGNS["KV cache"], account.kv_gib)]
    line, end = "", 0.0
    for sign, gib in shares:
        end += gib
        line += sign * (min(BAR_WIDTH, round(BAR_WIDTH * end / account.gpu_gib)) - len(line))
    return f"[{line.ljust(BAR_WIDTH, '.')}]"


def _verdict(server: ServerMemory, named: bool) -> list[str]:
    capacity, config = server.account.capacity, server.config
    which = f"{config.max_loras} slots: " if named else ""
    says = "starts" if capacity.starts else f"does not start: {capacity.reason}"
    return [f"  {memory_bar(server)}", f"  {which}{says}"]
