"""Import traffic: find out what the sources are, read them, choose a window, write the workload file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from loratwin.errors import InputError
from loratwin.http import bearer
from loratwin.records.atomic import write_atomically
from loratwin.traces import DEFAULT, Reading, read_trace
from loratwin.traces.rows import UNREADABLE, open_table
from loratwin.traffic.observed import Chosen, Hours, Observed, choose, of_trace, with_base
from loratwin.traffic.pages import from_pages, is_page
from loratwin.traffic.prometheus import from_answers, from_server, is_answer, range_of
from loratwin.traffic.workload_text import workload_text
from loratwin.workload import parse_spec, ranks_in


@dataclass(frozen=True)
class Sources:
    """Where traffic is seen, and how it is read.

    Parameters
    ----------
    places
        Files (a log; saved range queries; one or two pages of /metrics), or the address of a Prometheus.
    reading
        Columns and units of a log.
    base
        Names that are the LLM itself, not adapters.
    label
        Of metrics: whose values are the adapters.
    matchers
        Of Prometheus: further labels, as ``namespace="prod"``.
    since_s, end_s, step_s
        Of Prometheus: how long before the end, the end in seconds since 1970 (None: now), and between two values.
    seconds
        Of pages of /metrics: between them, or since the server's start.
    lora_folder
        Of the adapters (PEFT): tells their ranks.
    api_key
        Sent to Prometheus as a bearer; written nowhere.
    """

    places: tuple[str, ...]
    reading: Reading = DEFAULT
    base: tuple[str, ...] = ()
    label: str = "model_name"
    matchers: str = ""
    since_s: float = 86_400.0
    end_s: float | None = None
    step_s: float | None = None
    seconds: float | None = None
    api_key: str | None = None
    lora_folder: Path | None = None


def observe(sources: Sources) -> Observed:
    """What the sources tell of each adapter's traffic.

    Raises
    ------
    LoratwinError
        They cannot be read, or do not tell requests and tokens.
    """
    if not sources.places:
        raise InputError("no source: give a log, an answer of Prometheus, pages of /metrics, or a Prometheus' address")
    if any("://" in place for place in sources.places):
        if len(sources.places) > 1:
            raise InputError("one Prometheus at a time: give its address alone")
        asked = range_of(sources.since_s, time.time() if sources.end_s is None else sources.end_s, sources.step_s)
        headers: Mapping[str, str] = bearer(sources.api_key)
        seen = from_server(sources.places[0], asked, sources.matchers, sources.label, headers)
    else:
        seen = _of_files([Path(place) for place in sources.places], sources)
    return with_base(seen, sources.base)


def _of_files(paths: Sequence[Path], sources: Sources) -> Observed:
    begin = _begin(paths[0])
    if is_answer(begin):
        return from_answers(paths, sources.label)
    if is_page(begin):
        return from_pages(paths, sources.seconds, sources.label)
    if len(paths) > 1:
        raise InputError(f"{paths[1]}: one log at a time")
    return of_trace(read_trace(paths[0], sources.reading), (), f"the log {paths[0].name}")


def _begin(path: Path) -> str:
    try:
        with open_table(path) as opened:
            return "" if isinstance(opened, Path) else str(opened.read(4000))
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def import_traffic(
    sources: Sources, output: Path | None = None, hours: Hours = "busiest", window_s: float = 3600.0
) -> tuple[str, Observed, Chosen]:
    """The workload file of what was seen; written whole, or not at all.

    Returns
    -------
    text : the file
    observed, chosen : what it is made of

    Raises
    ------
    LoratwinError
        The sources cannot be used, or the file cannot be written.
    """
    if not window_s > 0:
        raise InputError(f"window of {window_s:g} s: expected a positive number")
    ranks = None if sources.lora_folder is None else ranks_in(sources.lora_folder)
    observed = observe(sources)
    chosen = choose(observed, hours, window_s)
    text = workload_text(observed, chosen, ranks)
    _check(text)
    if output is not None:
        write_atomically(output, text)
    return text, observed, chosen


def _check(text: str) -> None:
    """What is written can be read: by YAML in C where it is there, 10,000 groups take seconds then, not a minute."""
    parse_spec(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), "imported traffic")
