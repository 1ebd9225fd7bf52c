"""The text of `/metrics` as values: prometheus_client reads each series once, later scrapes look it up by its text.

Its parser needs some 10 ms for a page of vLLM; looking up needs 1 ms, on a machine that a server may share.
"""

from __future__ import annotations

from loratwin.engines.registry import ENGINES
from loratwin.errors import DataError
from loratwin.extras import required
from loratwin.telemetry.table import Kind, SeriesKey

MOST_SERIES = 5000
"""A page with more is cut: labels that never end are an error of the server, not a measurement."""

ADAPTERS_RUNNING = SeriesKey("loratwin:adapters_running", (), Kind.GAUGE)
ADAPTERS_WAITING = SeriesKey("loratwin:adapters_waiting", (), Kind.GAUGE)
MAX_LORAS = SeriesKey("loratwin:max_loras", (), Kind.GAUGE)

_ADAPTER_INFOS = {f"{info.series}{{": info for engine in ENGINES.values() if (info := engine.adapter_info) is not None}
_ADAPTER_SERIES = tuple(_ADAPTER_INFOS)
_KINDS = {"counter": Kind.COUNTER, "histogram": Kind.HISTOGRAM}


class Exposition:
    """Reads the pages of one server, which mostly hold the same series."""

    def __init__(self) -> None:
        self._keys: dict[str, SeriesKey | None] = {}  # the text before the value -> series; None: not kept
        self.cut = False
        """Whether series were left out because there are more than `MOST_SERIES`."""

    def read(self, page: str) -> dict[SeriesKey, float]:
        """The values of a page.

        A series with a line for each combination of adapters that ever was, and the time as value (`AdapterInfo`),
        becomes three numbers: those of the latest.

        Raises
        ------
        DataError
            The page is not in Prometheus' text format.
        """
        values: dict[SeriesKey, float] = {}
        type_line, latest, latest_line = "", float("-inf"), ""
        for line in page.split("\n"):
            if line.startswith("#"):
                type_line = line if line.startswith("# TYPE ") else type_line
                continue
            if not line.strip():
                continue
            text, value = _split(line)
            if text.startswith(_ADAPTER_SERIES):
                if value >= latest:
                    latest, latest_line = value, line
                continue
            key = self._keys[text] if text in self._keys else self._learn(text, type_line, line)
            if key is not None:
                values[key] = value
        return {**values, **(_adapter_info(latest_line) if latest_line else {})}

    def _learn(self, text: str, type_line: str, line: str) -> SeriesKey | None:
        """`_created` holds the time at which a counter was made: no measurement."""
        if len(self._keys) >= MOST_SERIES:
            self.cut = True
            return None
        key = _parse(type_line, line)
        self._keys[text] = None if key.name.endswith("_created") else key
        return self._keys[text]


def page_values(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All series of a page by name and labels, as they are: no series is cut, nor made of others.

    Raises
    ------
    DataError
        The page is not in Prometheus' text format.
    """
    parser = required("prometheus_client.parser", "a page of /metrics", "bench")
    try:
        families = list(parser.text_string_to_metric_families(page))
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(f"not in Prometheus' text format ({error})") from None
    return {
        (sample.name, tuple(sample.labels.items())): float(sample.value)
        for family in families
        for sample in family.samples
    }


def _split(line: str) -> tuple[str, float]:
    """Name with labels, and value; a time stamp may follow the value, and neither can hold a brace."""
    end = line.rfind("}") + 1 or line.find(" ")
    try:
        return line[:end], float(line[end:].split()[0])
    except (ValueError, IndexError):
        raise DataError(f"not a line of Prometheus' text format: {line[:80]!r}") from None


def _parse(type_line: str, line: str) -> SeriesKey:
    from prometheus_client.parser import text_string_to_metric_families

    try:
        for family in text_string_to_metric_families(f"{type_line}\n{line}\n"):
            for sample in family.samples:
                kind = _KINDS.get(family.type, Kind.GAUGE)
                return SeriesKey(sample.name, tuple(sample.labels.items()), kind)
    except (ValueError, KeyError, IndexError):
        pass
    raise DataError(f"not a line of Prometheus' text format: {line[:80]!r}")


def _adapter_info(line: str) -> dict[SeriesKey, float]:
    info = _ADAPTER_INFOS[line[: line.index("{") + 1]]
    labels = dict(_parse("", line).labels)
    values = {
        ADAPTERS_RUNNING: float(_num_names(labels.get(info.running, ""))),
        ADAPTERS_WAITING: float(_num_names(labels.get(info.waiting, ""))),
    }
    max_loras = labels.get(info.most, "")
    return {**values, MAX_LORAS: float(max_loras)} if max_loras.isdigit() else values


def _num_names(joined: str) -> int:
    return len([name for name in joined.split(",") if name])
