"""The text of `/metrics` as values: prometheus_client reads each series once, later scrapes look it up by its text.

Its parser needs some 10 ms for a page of vLLM; looking up needs 1 ms, on a machine that a server may share.
"""

from __future__ import annotations

from loratwin.errors import DataError
from loratwin.telemetry.table import Kind, SeriesKey

MOST_SERIES = 5000
"""A page with more is cut: labels that never end are an error of the server, not a measurement."""

ADAPTERS_RUNNING = SeriesKey("loratwin:adapters_running", (), Kind.GAUGE)
ADAPTERS_WAITING = SeriesKey("loratwin:adapters_waiting", (), Kind.GAUGE)
MAX_LORAS = SeriesKey("loratwin:max_loras", (), Kind.GAUGE)

_LORA_INFO = "vllm:lora_requests_info{"
_KINDS = {"counter": Kind.COUNTER, "histogram": Kind.HISTOGRAM}


class Exposition:
    """Reads the pages of one server, which mostly hold the same series."""

    def __init__(self) -> None:
        self._keys: dict[str, SeriesKey | None] = {}  # the text before the value -> series; None: not kept
        self.cut = False
        """Whether series were left out because there are more than `MOST_SERIES`."""

    def read(self, page: str) -> dict[SeriesKey, float]:
        """The values of a page.

        `vllm:lora_requests_info` has a series for each combination of adapters that ever was, with the time as value:
        the latest becomes three numbers.

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
            if text.startswith(_LORA_INFO):
                if value >= latest:
                    latest, latest_line = value, line
                continue
            key = self._keys[text] if text in self._keys else self._learn(text, type_line, line)
            if key is not None:
                values[key] = value
        return {**values, **(_lora_info(latest_line) if latest_line else {})}

    def _learn(self, text: str, type_line: str, line: str) -> SeriesKey | None:
        """`_created` holds the time at which a counter was made: no measurement."""
        if len(self._keys) >= MOST_SERIES:
            self.cut = True
            return None
        key = _parse(type_line, line)
        self._keys[text] = None if key.name.endswith("_created") else key
        return self._keys[text]


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


def _lora_info(line: str) -> dict[SeriesKey, float]:
    labels = dict(_parse("", line).labels)
    values = {
        ADAPTERS_RUNNING: float(_num_names(labels.get("running_lora_adapters", ""))),
        ADAPTERS_WAITING: float(_num_names(labels.get("waiting_lora_adapters", ""))),
    }
    max_loras = labels.get("max_lora", "")
    return {**values, MAX_LORAS: float(max_loras)} if max_loras.isdigit() else values


def _num_names(joined: str) -> int:
    return len([name for name in joined.split(",") if name])
