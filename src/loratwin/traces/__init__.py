"""Recorded requests in other people's files: which arrived when, how long, for whom.

Forms are recognised by their columns (`formats`), rows that no server could be sent are counted (`TraceFacts`), and a
file is read in pieces, so that a million rows take the memory of their numbers.

>>> from loratwin.traces import read_trace
>>> trace = read_trace("azure_llm_2023_conv.csv")  # doctest: +SKIP
>>> trace.facts.requests, trace.facts.prompt_tokens, trace.facts.last_s  # doctest: +SKIP
"""

from loratwin.traces.formats import FORMATS, Format, format_named, format_names
from loratwin.traces.read import DEFAULT, Reading, read_facts, read_trace, reading
from loratwin.traces.servegen import Clients, is_clients, read_clients
from loratwin.traces.trace import MAX_TOKENS, NO_ADAPTER, SharedBlocks, Trace, TraceFacts

__all__ = [
    "DEFAULT",
    "FORMATS",
    "MAX_TOKENS",
    "NO_ADAPTER",
    "Clients",
    "Format",
    "Reading",
    "SharedBlocks",
    "Trace",
    "TraceFacts",
    "format_named",
    "format_names",
    "is_clients",
    "read_clients",
    "read_facts",
    "read_trace",
    "reading",
]
