"""Workloads: from a YAML file (or Python objects) and a seed to the arrays of a run. All randomness lives here.

>>> from loratwin.workload import AdapterGroup, WorkloadSpec, draw
>>> spec = WorkloadSpec(window_s=600, groups=[AdapterGroup(name="tenant", count=20, total_rate=4, popularity="zipf")])
>>> draw(spec, seed=1).num_requests == draw(spec, seed=1).num_requests
True
"""

from loratwin.workload.adapter_folder import rank_of, ranks_in
from loratwin.workload.arrays import BASE, OPEN, Adapters, ArrivalPattern, Workload
from loratwin.workload.arrivals import (
    AtOnce,
    ClientRates,
    Closed,
    Deterministic,
    Diurnal,
    Gamma,
    OnOff,
    Poisson,
    Replay,
)
from loratwin.workload.draw import draw
from loratwin.workload.examples import copy_example, example_names, example_path
from loratwin.workload.files import load_spec, load_specs, parse_spec, save_spec
from loratwin.workload.hours import BusiestHour, busiest_hour, part_of, varies
from loratwin.workload.lengths import Fixed, Histogram, Lognormal, SampledLengths, Separate, Uniform
from loratwin.workload.popularity import Equal, RateChoices, Zipf
from loratwin.workload.recorded import recorded_workload, sent_s, served_rows, served_workload
from loratwin.workload.sharegpt import ShareGpt
from loratwin.workload.sharing import Sharing, Texts, shared_blocks
from loratwin.workload.spec import (
    AdapterGroup,
    BaseTraffic,
    Prefix,
    Sessions,
    WorkloadSpec,
    spec_json_schema,
    uniform_groups,
)
from loratwin.workload.variants import burst_of, faster, first_part, grown

__all__ = [
    "BASE",
    "OPEN",
    "AdapterGroup",
    "Adapters",
    "ArrivalPattern",
    "AtOnce",
    "BaseTraffic",
    "BusiestHour",
    "ClientRates",
    "Closed",
    "Deterministic",
    "Diurnal",
    "Equal",
    "Fixed",
    "Gamma",
    "Histogram",
    "Lognormal",
    "OnOff",
    "Poisson",
    "Prefix",
    "RateChoices",
    "Replay",
    "SampledLengths",
    "Separate",
    "Sessions",
    "ShareGpt",
    "Sharing",
    "Texts",
    "Uniform",
    "Workload",
    "WorkloadSpec",
    "Zipf",
    "burst_of",
    "busiest_hour",
    "copy_example",
    "draw",
    "example_names",
    "example_path",
    "faster",
    "first_part",
    "grown",
    "load_spec",
    "load_specs",
    "parse_spec",
    "part_of",
    "rank_of",
    "ranks_in",
    "recorded_workload",
    "save_spec",
    "sent_s",
    "served_rows",
    "served_workload",
    "shared_blocks",
    "spec_json_schema",
    "uniform_groups",
    "varies",
]
