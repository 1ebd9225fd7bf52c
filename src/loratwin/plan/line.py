"""What to change in the line that a server is started with now, and how much it brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loratwin.engines.config import asked_config
from loratwin.engines.server_line import ServerLine, defaults_of
from loratwin.formatting import change, milliseconds, number
from loratwin.plan.choice import Candidate
from loratwin.plan.export import candidate_json
from loratwin.plan.question import AnyWorkload, drawn_for
from loratwin.plan.result import Plan
from loratwin.plan.search import Finder, Progress, Settings
from loratwin.plan.sentences import margin_text, works_or_not
from loratwin.plan.trial import Bench, Result, Trial
from loratwin.records import EngineConfig
from loratwin.simulate import on_line, server_configs
from loratwin.simulate.workers import Workers
from loratwin.workload import Workload, WorkloadSpec, part_of


@dataclass(frozen=True, eq=False)
class LineChange:
    """A server's line beside a plan for the same adapters.

    Parameters
    ----------
    now
        What the line's server does for the adapters that the plan serves; None: it does not take them all.
    refused
        Why it does not; "": it does.
    diff
        Lines of the command, one option each: " " stays, "-" goes, "+" comes. Empty: the plan has no configuration.
    """

    line: ServerLine
    now: Candidate | None
    refused: str
    diff: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether there is anything to change."""
        return any(not part.startswith(" ") for part in self.diff)


def line_change(
    plan: Plan, workload: AnyWorkload, line: ServerLine, *, processes: int = 1, progress: Progress | None = None
) -> LineChange:
    """Simulate the line's server with the plan's traffic, and compare.

    Parameters
    ----------
    plan, workload
        A plan, and what it is of.
    processes, progress
        As for `plan`.
    """
    if plan.hour is not None and isinstance(workload, WorkloadSpec):
        workload = part_of(workload, plan.hour.start_s)
    drawn = drawn_for(workload, plan.seeds)
    if not plan.serves_all and plan.served:
        drawn = tuple(one.take_adapters(plan.served) for one in drawn)
    config = _config(plan, drawn[0], line)
    refused = _refused(drawn[0], config)
    now = None if refused else _simulated(plan, drawn, config, processes, progress)
    return LineChange(line, now, refused, _diff(plan, line, config))


def _config(plan: Plan, drawn: Workload, line: ServerLine) -> EngineConfig:
    """What the line makes of a server on the profile's GPU."""
    said = defaults_of(line)
    fields = {name: value for name, value in said.items() if name in EngineConfig.model_fields}
    slots = fields.pop("max_loras")
    (config,) = server_configs(drawn, plan.profile, [slots], **{"max_lora_rank": 16} | fields)
    return on_line(config)


def _refused(drawn: Workload, config: EngineConfig) -> str:
    if not config.max_loras:
        return "without --enable-lora it serves none of the adapters"
    above = int((drawn.adapters.rank > config.max_lora_rank).sum())
    if above:
        return f"it refuses {above} of {len(drawn.adapters)} adapters: their rank is above {config.max_lora_rank}"
    return ""


def _simulated(
    plan: Plan, drawn: tuple[Workload, ...], config: EngineConfig, processes: int, progress: Progress | None
) -> Candidate:
    num_adapters = len(drawn[0].adapters)
    bench = Bench(drawn, tuple(range(num_adapters)), plan.profile, plan.targets)
    settings = Settings(plan.objective, plan.slo, headroom=plan.headroom)
    with Workers[Trial, Result](bench.measure, processes) as workers:
        finder = Finder(bench, settings, workers, progress)
        (candidate,) = finder.with_margins(finder.evaluate(num_adapters, [config], len(drawn), "your line"))
    return candidate


def _diff(plan: Plan, line: ServerLine, now: EngineConfig) -> tuple[str, ...]:
    """The line with the options of the chosen configuration in place of those that differ."""
    if plan.best is None:
        return ()
    best, engine = plan.best.config, line.arguments.engine
    wanted = {name: getattr(best, name) for name in EngineConfig.model_fields if name in engine.options}
    differs = {name: value for name, value in wanted.items() if value is not None and value != getattr(now, name)}
    written = asked_config(line.arguments) if now.max_loras else {}
    if best.max_loras and not now.max_loras:
        differs |= {name: wanted[name] for name in ("max_loras", "max_cpu_loras", "max_lora_rank")}
        differs = {"enable_lora": True, **differs}
    if differs.get("max_cpu_loras") == best.max_loras and "max_cpu_loras" not in written:
        del differs["max_cpu_loras"]  # what the engine takes anyway
    return tuple(_lines(line, differs))


def _lines(line: ServerLine, differs: dict[str, Any]) -> list[str]:
    options = line.arguments.engine.options
    named = {name: " ".join(options[name].written(_plain(value))) for name, value in differs.items()}
    lines: list[str] = []
    left = dict(named)
    for part, field in zip(line.parts, line.arguments.fields_given, strict=True):
        lines.append(f"{'-' if field in differs else ' '} {part}")
        if field in left:
            lines.append(f"+ {left.pop(field)}")
    return [*lines, *(f"+ {text}" for text in left.values())]


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


def line_change_text(change_: LineChange, plan: Plan) -> str:
    """What `loratwin plan --serve` prints below the plan: the diff, and figures now and then."""
    if plan.best is None:
        return f"Your line ({change_.line.where}): the plan has no configuration to change it to."
    if not change_.changes:
        return f"Your line ({change_.line.where}) is the plan's: nothing to change."
    head = f"What to change in your line ({change_.line.where}):"
    return "\n".join([head, *(f"  {part}" for part in change_.diff), *_brings(change_, plan.best, plan)])


def _brings(change_: LineChange, best: Candidate, plan: Plan) -> list[str]:
    now = change_.now
    if now is None:
        return [f"Now: {change_.refused}."]
    if not now.starts:
        return [f"Now it does not start: {now.why_not}."]
    rows = [("", "now", "changed", ""), ("", works_or_not(now, plan.slo), works_or_not(best, plan.slo), "")]
    rows.append(_row("tokens/s", now.throughput, best.throughput, number))
    for title, name in (("TTFT mean", "ttft_mean_ms"), ("TTFT p99", "ttft_p99_ms"), ("TPOT mean", "tpot_mean_ms")):
        rows.append(_row(title, now.mean(name), best.mean(name), milliseconds))
    rows.append(_row("end to end", now.latency_ms, best.latency_ms, milliseconds))
    rows.append(("margin", margin_text(now.margin), margin_text(best.margin), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return ["What it brings (simulated):", *lines]


def _row(title: str, now: float, then: float, shown: Any) -> tuple[str, str, str, str]:
    return (title, shown(now), shown(then), change(then / now - 1) if now else "")


def line_change_json(change_: LineChange) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "line": change_.line.parts,
        "read_from": change_.line.where,
        "now": None if change_.now is None else candidate_json(change_.now),
        "refused": change_.refused,
        "diff": list(change_.diff),
    }
