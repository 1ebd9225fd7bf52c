"""What a run is, real or simulated: one schema with units, one `Run`, and its files."""

from loratwin.records.atomic import check_writable, would_replace, write_atomically
from loratwin.records.config import EngineConfig
from loratwin.records.files import check_json_file, load_run, load_runs, save_run
from loratwin.records.plain import as_tuple
from loratwin.records.run import (
    AdapterTable,
    Gauges,
    PrefixCounts,
    Provenance,
    ReferenceLoad,
    RequestTable,
    Run,
    RunKind,
    StepSeries,
)
from loratwin.records.series import DeliverySeries, GapHistogram, Samples, Series
from loratwin.records.sharing import Sharing

__all__ = [
    "AdapterTable",
    "DeliverySeries",
    "EngineConfig",
    "GapHistogram",
    "Gauges",
    "PrefixCounts",
    "Provenance",
    "ReferenceLoad",
    "RequestTable",
    "Run",
    "RunKind",
    "Samples",
    "Series",
    "Sharing",
    "StepSeries",
    "as_tuple",
    "check_json_file",
    "check_writable",
    "load_run",
    "load_runs",
    "save_run",
    "would_replace",
    "write_atomically",
]
