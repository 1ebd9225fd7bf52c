"""All that is sampled while the load runs: each server's `/metrics`, and the GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratwin.bench.options import Options
from loratwin.bench.running import RunningServers
from loratwin.records import Samples

if TYPE_CHECKING:
    from loratwin.telemetry import GpuSampler, Scrape


class Sampling:
    """All that is sampled while the load runs."""

    def __init__(self, sources: Sequence[Scrape | GpuSampler]) -> None:
        self._sources = sources

    def take(self, start_s: float, window_s: float) -> tuple[Samples, ...]:
        """What was sampled in the window."""
        sampled = [source.samples(start_s, start_s, start_s + window_s) for source in self._sources]
        return name_servers([samples for samples in sampled if samples is not None])

    def notes(self) -> list[str]:
        """Why samples are missing, each reason once."""
        return list(dict.fromkeys(note for source in self._sources for note in source.notes))


@contextmanager
def sampling(servers: RunningServers, options: Options, folder: Path) -> Iterator[Sampling]:
    """Sample from now on, until the end of the `with`."""
    from loratwin.telemetry import GpuSampler, Scrape  # not at the top: the load client imports this package too

    every_s, headers = options.scrape_every_s, options.headers
    with ExitStack() as stack:
        scrapes = [
            stack.enter_context(Scrape(url, every_s, folder / f"server-{i}.scrapes", headers=headers))
            for i, url in enumerate(servers.urls)
        ]
        yield Sampling([*scrapes, stack.enter_context(GpuSampler(every_s, folder / "gpu.samples"))])


def name_servers(sources: Sequence[Samples]) -> tuple[Samples, ...]:
    """Where there are several servers, they are called server-0, server-1, ..."""
    servers = [source for source in sources if source.source == "server"]
    if len(servers) < 2:
        return tuple(sources)
    named = {id(source): replace(source, source=f"server-{i}") for i, source in enumerate(servers)}
    return tuple(named.get(id(source), source) for source in sources)
