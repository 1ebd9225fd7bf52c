"""The loop held to account on a real vLLM on CPU: calibrated as a user would, then workloads that nothing has seen.

    python -m benchmarks.loop FOLDER                      both LLM shapes, about 40 minutes of a quiet machine
    python -m benchmarks.loop FOLDER --shape gemma        one of them, about 20 minutes

For each shape: 24 adapters of ranks 8 to 32; `loratwin calibrate server --minutes 7 --learn` (its own check included);
then, on servers with numbers of slots that were never measured, eight workloads, each twice, and loads at 0.93 and
1.07 of the edge of starvation. Predictions and their intervals are those of `loratwin simulate`, on file before
anything of it is measured. What the folder has is not measured again: interrupted, the same command goes on. The table
is printed, and all numbers are in FOLDER/loop.json. The server is the one of the tests (`tests/vllm_cpu.py`:
$LORATWIN_VLLM_PYTHON), its worker in the engine's process: waiting for one of its own occupies a second core, and the
same load takes half as long at one time as at another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from statistics import fmean, median
from typing import Any

from loratwin.bench import Listener
from loratwin.calibrate import Checked, ServerSource, read_records, score_checks
from loratwin.calibrate.checks.check import CheckPrediction, Predicted
from loratwin.calibrate.checks.loads import carried, highest_kept
from loratwin.calibrate.design import ServerDesign
from loratwin.calibrate.loop.measuring import PlannedRun, measure_runs
from loratwin.metrics import starvation, summarize
from loratwin.perf import Profile, load_profile
from loratwin.records import EngineConfig, Run, load_run, write_atomically
from loratwin.simulate import simulate
from loratwin.simulate.forecast import forecast
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from loratwin.workload import Adapters, Workload, WorkloadSpec, draw, parse_spec
from tests.vllm_cpu import one_at_a_time, server_command, server_env

SHAPES = {
    "qwen3": NewLlm("qwen3", hidden_size=192, num_layers=5, num_heads=6, num_kv_heads=3, intermediate_size=640),
    "gemma": NewLlm("gemma", hidden_size=256, num_layers=4, num_heads=4, num_kv_heads=1, intermediate_size=896),
}
"""No test has these."""

ADAPTERS, RANKS = 24, (8, 16, 24, 32)
ARGS = "--dtype bfloat16 --max-model-len 1024 --enforce-eager --max-num-seqs 16 --distributed-executor-backend uni"
SLOTS = (3, 6)
"""Between those that a calibration measures, so that no run of it had them."""

FIGURES = {
    "total_throughput": "tokens/s", "itl_mean_ms": "ITL", "tpot_mean_ms": "TPOT", "ttft_mean_ms": "TTFT mean",
    "ttft_p99_ms": "TTFT p99",
}  # fmt: skip
EDGES = (0.93, 1.07)
_SEEDS = 12
_FEWEST = 5
"""Requests of a workload below which its figures say nothing."""

Part = Mapping[str, Any]
_LENGTHS: Part = {
    "prompt": {"kind": "lognormal", "mean": 70, "std": 50, "min": 8, "max": 300},
    "output": {"kind": "lognormal", "mean": 28, "std": 18, "min": 4, "max": 120},
}
_LONG: Part = {
    "prompt": {"kind": "lognormal", "mean": 260, "std": 120, "min": 40, "max": 700},
    "output": {"kind": "lognormal", "mean": 12, "std": 6, "min": 2, "max": 40},
}


@dataclass(frozen=True)
class Kind:
    """A kind of load: how its requests come, how long they are, and which part of its edge of starvation is offered."""

    part: float
    exponent: float = 0.0
    arrivals: str | Mapping[str, Any] = "poisson"
    lengths: Part = field(default_factory=lambda: _LENGTHS)


STEADY = Kind(0.5)
KINDS = {
    "steady": STEADY,
    "bursts": Kind(0.55, 0.9, {"kind": "on_off", "on_s": 2.0, "off_s": 2.5}),
    "long": Kind(0.7, 0.6, lengths=_LONG),
    "over": Kind(1.4, 1.1),
}


@dataclass(frozen=True)
class Unseen:
    """A workload that no profile has seen, and the server that it is for."""

    name: str
    config: EngineConfig
    spec: WorkloadSpec
    seed: int
    edge: float = 0.0
    """Part of the predicted edge of starvation, where that is what is asked; else 0."""

    @property
    def workload(self) -> Workload:
        """Its requests."""
        return draw(self.spec, self.seed)


def unseen_workloads(
    profile: Profile, server: EngineConfig, adapters: Adapters, slots: Sequence[int], window_s: float
) -> list[Unseen]:
    """All that is measured beyond the calibration, by the profile's own edges of starvation."""
    found = []
    for number in slots:
        config = server.replace(max_loras=number, max_cpu_loras=len(adapters))
        for i, (name, kind) in enumerate(KINDS.items()):
            seed = 100 * number + i
            rate = kind.part * _edge(kind, profile, config, adapters, window_s, seed)
            asked = Unseen(f"{name}-{number}", config, _spec(kind, rate, adapters, window_s), seed)
            if asked.workload.num_requests < _FEWEST:
                raise SystemExit(f"{asked.name}: too few requests in {window_s:g} s: take a longer --window")
            found.append(asked)
        found += _at_edge(profile, config, adapters, window_s, 100 * number + len(KINDS))
    return found


def _at_edge(
    profile: Profile, config: EngineConfig, adapters: Adapters, window_s: float, first_seed: int
) -> list[Unseen]:
    """Loads on both sides of an edge, of the first seed whose requests the profile itself judges so.

    A short window has busy seconds: what keeps up at one rate may not at a lower one, and then there is nothing to ask.
    """
    for seed in range(first_seed, first_seed + _SEEDS):
        edge = _edge(STEADY, profile, config, adapters, window_s, seed)
        asked = [
            Unseen(f"edge{part}-{config.max_loras}", config, _spec(STEADY, part * edge, adapters, window_s), seed, part)
            for part in EDGES
        ]
        said = [starvation(simulate(each.workload, profile, config)).starved for each in asked]
        if said == [part > 1 for part in EDGES]:
            return asked
    raise SystemExit(f"{_SEEDS} drawn loads have no clear edge of starvation in {window_s:g} s: take a longer --window")


def _edge(kind: Kind, profile: Profile, config: EngineConfig, adapters: Adapters, window_s: float, seed: int) -> float:
    def at(rate: float) -> Workload:
        return draw(_spec(kind, rate, adapters, window_s), seed)

    return highest_kept(at, profile, config, carried(at, profile, config))


def _spec(kind: Kind, rate: float, adapters: Adapters, window_s: float) -> WorkloadSpec:
    group = {
        "name": "adapters", "names": list(adapters.name), "ranks": adapters.rank.tolist(), "total_rate": rate,
        "popularity": {"kind": "zipf", "exponent": kind.exponent} if kind.exponent else {"kind": "equal"},
        "arrivals": kind.arrivals,
    }  # fmt: skip
    return parse_spec({"window_s": window_s, "lengths": dict(kind.lengths), "groups": [group]})


def predicted(unseen: Unseen, profile: Profile) -> CheckPrediction:
    """What `loratwin simulate` says of such a workload; at the edge only whether it starves."""
    if unseen.edge:
        return CheckPrediction(unseen.name, {}, unseen.edge > 1, float(unseen.edge > 1))
    stated = forecast(unseen.workload, profile, unseen.config)  # it is known which requests will come
    told = summarize(simulate(unseen.workload, profile, unseen.config))
    figures = {
        name: Predicted(float(getattr(told, name)), stated.intervals[name].low, stated.intervals[name].high)
        for name in FIGURES
    }
    return CheckPrediction(unseen.name, figures, told.starved, stated.starved)


@dataclass(frozen=True)
class Loop:
    """One LLM shape through the loop."""

    folder: Path
    minutes: float
    window_s: float
    repeats: int

    def measured(self, llm: NewLlm) -> dict[str, Any]:
        """Calibrate, predict, measure, compare; plain data."""
        shapes = make_llm(self.folder / "llm", llm)
        made = make_adapters(self.folder / "adapters", shapes, numbered("tenant", ADAPTERS, RANKS))
        args = f"--model {self.folder / 'llm'} {ARGS}"
        self.calibrate(args)
        profile = load_profile(str(self.folder / "mine" / "profile-learned.yaml"))
        source = ServerSource(self.folder / "adapters", args, " ".join(server_command()))
        asked = unseen_workloads(profile, self.server(), source.adapters(), self.slots(profile), self.window_s)
        predictions = [predicted(each, profile) for each in asked]
        self.keep(predictions)
        runs = self.measure(asked, source)
        checked = score_checks(predictions, runs, profile)
        return {
            "llm": asdict(llm), "adapters": len(made), "minutes": self.minutes, "calibrate_s": self.calibrate_s(),
            "unseen": figures_data(checked), "edges": edges_data(asked, runs),
            "check": json.loads((self.folder / "mine" / "check.json").read_text()),
            "machine": {name: list(factors) for name, factors in checked.machine},
        }  # fmt: skip

    def calibrate(self, args: str) -> None:
        """The user's command; seconds of all its calls add up in a file."""
        if (self.folder / "mine" / "profile-learned.yaml").exists():
            return
        words = ["server", str(self.folder / "mine"), "--lora-folder", str(self.folder / "adapters"), "--learn"]
        words += ["--server-args", args, "--server-command", " ".join(server_command())]
        words += ["--minutes", f"{self.minutes:g}"]
        began, before = time.monotonic(), self.calibrate_s()
        try:
            subprocess.run([sys.executable, "-m", "loratwin", "calibrate", *words], check=True)
        finally:
            took = before + time.monotonic() - began
            write_atomically(self.folder / "calibrate.json", json.dumps({"seconds": took}))

    def calibrate_s(self) -> float:
        """Seconds that the command has taken so far."""
        file = self.folder / "calibrate.json"
        return float(json.loads(file.read_text())["seconds"]) if file.exists() else 0.0

    def server(self) -> EngineConfig:
        """What the calibration's servers were limited to, with the slots' smaller rank."""
        configs = [run.config for run in read_records(self.folder / "mine" / "records").values()]
        return configs[0].replace(max_lora_rank=min(config.max_lora_rank for config in configs))

    def slots(self, profile: Profile) -> list[int]:
        """Numbers of slots inside the profile's domain."""
        least, most = profile.domain.max_loras
        return sorted({min(max(number, least), most) for number in SLOTS})

    def keep(self, predictions: Sequence[CheckPrediction]) -> None:
        """On file before anything is measured; what is there stays."""
        if not (file := self.folder / "predictions.json").exists():
            write_atomically(file, json.dumps([asdict(each) for each in predictions], indent=1) + "\n")

    def measure(self, asked: Sequence[Unseen], source: ServerSource) -> dict[str, list[Run]]:
        """Each workload as often as wanted (at the edge once), the repetitions apart in time; one start for each
        number of slots."""
        (self.folder / "records").mkdir(exist_ok=True)
        runs: dict[str, list[Run]] = {each.name: [] for each in asked}
        for slots in sorted({each.config.max_loras for each in asked}):
            here = [each for each in asked if each.config.max_loras == slots]
            config = here[0].config
            server = ServerDesign(
                name="unseen", max_loras=slots, max_cpu_loras=config.max_cpu_loras or slots,
                max_lora_rank=config.max_lora_rank, runs=(),
            )  # fmt: skip
            planned = [
                PlannedRun(self.folder / "records" / f"{each.name}-{i}.json", each.workload, about=f"unseen, {i}")
                for i in range(1, self.repeats + 1)
                for each in here
                if i == 1 or not each.edge
            ]
            refuse_others(planned)
            logs = self.folder / f"logs-{slots}"
            measure_runs(
                source, server.arguments(source.engine), planned, logs,
                lambda path, run: runs[path.stem.rpartition("-")[0]].append(run), Listener(line=say),
            )  # fmt: skip
        return runs


def refuse_others(planned: Sequence[PlannedRun]) -> None:
    """A record that is there must be of the workload that is predicted now."""
    for run in planned:
        if run.path.exists() and load_run(run.path).provenance.workload_hash != run.workload.digest:
            raise SystemExit(f"{run.path} is of another workload (another profile or window): remove {run.path.parent}")


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def figures_data(checked: Checked) -> dict[str, Any]:
    """By figure: measurements inside, of how many; half-widths, errors and noise as parts of 1."""
    data = {}
    for figure in FIGURES:
        scores = [score for score in checked.scores if score.figure == figure]
        widths = [(s.predicted.high - s.predicted.low) / 2 / s.predicted.value for s in scores]
        noise = [score.noise for score in scores if not isnan(score.noise)]
        data[figure] = {
            "inside": sum(s.predicted.holds(value) for s in scores for value in s.measured),
            "of": sum(len(s.measured) for s in scores),
            "half_width_median": median(widths), "half_width_max": max(widths),
            "mean_error": checked.mean_error(figure), "noise": fmean(noise) if noise else None,
            "each": {s.check: {**asdict(s.predicted), "measured": list(s.measured)} for s in scores},
        }  # fmt: skip
    return data


def edges_data(asked: Sequence[Unseen], runs: Mapping[str, Sequence[Run]]) -> dict[str, list[bool]]:
    """By part of the edge: whether each measurement starved."""
    parts = sorted({each.edge for each in asked if each.edge})
    return {
        f"{part:g}": [starvation(run).starved for each in asked if each.edge == part for run in runs[each.name]]
        for part in parts
    }


def table(name: str, data: Mapping[str, Any]) -> Iterator[str]:
    """The table of one shape."""
    llm, unseen = data["llm"], data["unseen"]
    took = f"{data['calibrate_s'] / 60:.1f} minutes, its check included"
    yield f"{name}: {llm['num_layers']} layers of {llm['hidden_size']}, {data['adapters']} adapters; whole loop {took}"
    yield f"  {'figure':10s} inside 90 %   half-width (most)   mean error   noise of repetition"
    for figure, title in FIGURES.items():
        of = unseen[figure]
        noise = "-" if of["noise"] is None else f"{100 * of['noise']:.1f} %"
        yield (
            f"  {title:10s} {of['inside']:3d} of {of['of']:3d}   {100 * of['half_width_median']:6.0f} % "
            f"({100 * of['half_width_max']:.0f} %)   {100 * of['mean_error']:10.1f} %   {noise}"
        )
    inside, num = (sum(unseen[figure][key] for figure in FIGURES) for key in ("inside", "of"))
    yield f"  all: {inside} of {num} ({100 * inside / num:.0f} %)"
    yield from _own_check(data["check"])
    for part, starved in data["edges"].items():
        right = sum(each == (float(part) > 1) for each in starved)
        yield f"  starvation at {part} of the predicted edge: {right} of {len(starved)} right"
    if factors := [factor for each in data["machine"].values() for factor in each]:
        yield f"  reference loads: {min(factors):.2f} to {max(factors):.2f} of their usual time in the calibration"


def _own_check(check: Mapping[str, Any]) -> Iterator[str]:
    """What the loop's own check said, before it was learned from."""
    errors = ", ".join(
        f"{FIGURES[figure]} {100 * error:.1f} % ({100 * check['coverage'][figure]:.0f} % inside)"
        for figure, error in check["mean_error"].items()
    )
    yield f"  the loop's own check: {errors}"
    for kind, part in (("near", "0.85"), ("over", "1.2")):
        asked = [each for each in check["starved"] if each["check"].startswith(kind)]
        seen = [measured == each["predicted"] for each in asked for measured in each["measured"]]
        yield f"  starvation at {part} of the predicted edge: {sum(seen)} of {len(seen)} right"


def main() -> None:
    """Measure what is missing; print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for all files; what is there is not measured again")
    parser.add_argument("--shape", action="append", choices=[*SHAPES], help="this LLM alone; may be repeated")
    parser.add_argument("--minutes", type=float, default=7.0, help="of the calibration (7)")
    parser.add_argument("--window", type=float, default=18.0, help="seconds of each workload (18)")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each workload (2)")
    given = parser.parse_args()
    os.environ.update(server_env() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"})
    known = given.folder / "loop.json"
    done: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
    with one_at_a_time():
        for name in given.shape or SHAPES:
            loop = Loop(given.folder.absolute() / name, given.minutes, given.window, given.repeats)
            done[name] = loop.measured(SHAPES[name])
            write_atomically(known, json.dumps(done, indent=1) + "\n")
            print("\n".join(table(name, done[name])), flush=True)


if __name__ == "__main__":
    main()
