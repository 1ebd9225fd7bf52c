"""What is in a trace, as lines of text."""

from __future__ import annotations

from loratwin.report.console import MOST_NAMES
from loratwin.traces import FORMATS, TraceFacts

_TITLES = {form.name: form.title for form in FORMATS} | {"servegen": "ServeGen's clients"}


def trace_text(facts: TraceFacts) -> str:
    """Form, rows, tokens, times, adapters, and what was left out; a line each."""
    rows = {
        "format": facts.format + (f" ({title})" if (title := _TITLES.get(facts.format)) else ""),
        "rows": f"{facts.rows:,}",
        "requests": f"{facts.requests:,}",
        "prompt tokens": _tokens(facts.prompt_tokens, facts.rows_prompt_tokens, facts.requests),
        "output tokens": _tokens(facts.output_tokens, facts.rows_output_tokens, facts.requests),
        "first arrival": _time(facts.first_s, facts.origin),
        "last arrival": "the file has no times" if facts.last_s is None else f"{facts.last_s:.10g} s",
        "adapters": _adapters(facts),
    }
    if facts.last_s != facts.rows_last_s and facts.rows_last_s is not None:
        rows["last arrival"] += f" (of all rows {facts.rows_last_s:.10g} s)"
    width = max(map(len, rows))
    lines = [facts.path, *(f"  {name:{width}}  {text}" for name, text in rows.items())]
    return "\n".join([*lines, *(f"note: {change}" for change in facts.changes)])


def _tokens(total: int | None, of_rows: int | None, requests: int) -> str:
    if total is None:
        return "the file does not tell"
    beside = "" if total == of_rows else f" (of all rows {of_rows:,})"
    return f"{total:,}, {total / requests:,.1f} each{beside}"


def _time(first_s: float | None, origin: str | None) -> str:
    if first_s is None:
        return "the file has no times"
    return f"{first_s:.10g} s" + (f", which is {origin} (UTC)" if origin else "")


def _adapters(facts: TraceFacts) -> str:
    named = {name: count for name, count in facts.adapters.items() if name}
    if not named:
        return "the file has no column of adapters" if not facts.adapters else "none"
    most = sorted(named, key=lambda name: -named[name])[:MOST_NAMES]
    more = f", and {len(named) - len(most)} more" if len(named) > len(most) else ""
    base = f"; {facts.adapters['']:,} requests without one" if "" in facts.adapters else ""
    return f"{len(named)}: " + ", ".join(f"{name} ({named[name]:,})" for name in most) + more + base
