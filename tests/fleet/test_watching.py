"""Alert rules with the ranges that the twin expects, and what `bench` measures a deployment with."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import InputError
from loratwin.fleet import Placement, load_placement
from loratwin.fleet.alerts import alert_rules
from loratwin.fleet.deploying import deploy, deploy_plan
from loratwin.fleet.deployment import checked
from loratwin.fleet.expected import Expected, Range, expected_figures
from loratwin.fleet.files import same_placement, save_placement
from loratwin.fleet.split import routing_numbers, split_requests
from loratwin.fleet.targets import TARGETS
from loratwin.fleet.watching import watching
from loratwin.metrics import finished, gauges, ttft_s
from loratwin.simulate import simulate
from loratwin.workload import AdapterGroup, WorkloadSpec, draw, load_spec, save_spec
from tests.cli.program import loratwin
from tests.fleet.test_deployment import misspelt, placement
from tests.plan.small import LENGTHS, impossible, overloaded, profile, served, spec
from tests.slow import slow

ENGINE = find_engine(DEFAULT)
PLAN = ("--profile", profile().name, "--seeds", "1", "--slots", "3", "--max-num-seqs", "64")


def workload(total_rate: float = 30.0) -> WorkloadSpec:
    """For the adapters of `placement`."""
    names = ("sales", "legal", "hot")
    group = AdapterGroup(name="a", count=3, names=names, total_rate=total_rate, ranks=16)
    return WorkloadSpec(window_s=60, lengths=LENGTHS, groups=(group,))


@cache
def expected() -> tuple[Expected, ...]:
    return expected_figures(placement(), [draw(workload(), seed) for seed in (0, 1)], 0.2)


def rules_of(file: dict[str, Any]) -> list[dict[str, Any]]:
    groups = file.get("spec", file)["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_what_is_expected_is_what_each_server_shows_when_it_is_simulated() -> None:
    drawn = [draw(workload(), seed) for seed in (0, 1)]
    parts = [split_requests(placement(), each, routing_numbers(each.seed, each.num_requests)) for each in drawn]
    for k, each in enumerate(expected()):
        runs = [simulate(part[k], profile(), placement().servers[k].config) for part in parts]
        assert each.waiting.usual == pytest.approx(np.mean([gauges(run).waiting_mean for run in runs]))
        tails = [float(np.nanpercentile(ttft_s(run, "engine"), 99)) for run in runs]
        assert each.ttft_p99_s.usual == pytest.approx(np.mean(tails), rel=0.02)
        assert each.requests_per_s.usual == pytest.approx(np.mean([finished(run).sum() / 60 for run in runs]))
        assert each.requests_per_s.most == pytest.approx(1.2 * each.requests_per_s.usual, rel=0.05)


@pytest.mark.parametrize("target", TARGETS)
def test_rules_and_scrapes_pass_their_schema_and_typos_do_not(target: str) -> None:
    files = watching(target, expected(), 0.2)
    (rules,) = files["watch/alerts.yaml"]
    assert ("kind" in rules) == (target not in ("compose", "ray"))  # an object of Kubernetes
    for name, documents in files.items():
        assert list(yaml.safe_load_all(yaml.safe_dump_all(documents))) == documents
        checked({name: documents}, Path(name).stem)
        for wrong in (wrong for document in documents for wrong in misspelt(document)):
            with pytest.raises(InputError, match=name):
                checked({name: [wrong]}, "PrometheusRule" if "kindx" in wrong else Path(name).stem)


def test_each_server_is_watched_by_metrics_that_the_engine_has() -> None:
    names = {f"{metric.name}{end}" for row in ENGINE.metrics.values() for metric in row for end in ("", "_bucket")}
    rules = rules_of(watching("compose", expected(), 0.2)["watch/alerts.yaml"][0])
    for rule in rules:
        assert set(re.findall(r"vllm:\w+", rule["expr"])) <= names
        assert set(re.findall(r'server="([^"]+)"', rule["expr"])) == {rule["labels"]["server"]}
        assert rule["expr"].count("(") == rule["expr"].count(")")
    for server in ("gpu-0", "gpu-1"):
        own = {rule["alert"] for rule in rules if rule["labels"]["server"] == server}
        assert own >= {"LoratwinSilent", "LoratwinTraffic", "LoratwinQueue", "LoratwinStarves", "LoratwinTtft",
                       "LoratwinAdaptersStarve", "LoratwinKvCache", "LoratwinPreemptions"}  # fmt: skip


def test_nothing_that_the_twin_expects_alarms() -> None:
    """Thresholds are at or above the most that was simulated; the bound of TTFT is one of the histogram's."""
    of_rule = {"Traffic": "requests_per_s", "Queue": "waiting", "Starves": "waiting", "AdaptersStarve": "waiting",
               "Ttft": "ttft_p99_s", "KvCache": "kv_usage", "Preemptions": "preemptions_per_s"}  # fmt: skip
    busy = Expected("busy", **{each.name: Range(0.02, 0.9) for each in fields(Expected)[1:]})
    queueing = replace(busy, server="queueing", waiting=Range(3.0, 20.0))
    known = (*expected(), busy, queueing)
    by_server = {each.server: each for each in known}
    rules = rules_of(alert_rules(known, 0.2))
    assert {rule["alert"].removeprefix("Loratwin") for rule in rules} >= of_rule.keys()
    for rule in rules:
        figure = of_rule.get(rule["alert"].removeprefix("Loratwin"))
        if figure is not None:
            threshold = float(re.findall(r"> ([\d.e+-]+)", rule["expr"])[0])
            most = getattr(by_server[rule["labels"]["server"]], figure).most
            assert threshold >= most * (1 - 1e-3)
            assert figure != "ttft_p99_s" or threshold in ENGINE.ttft_bounds_s


def test_a_full_cache_and_an_unasked_server_get_no_rule_that_could_not_hold() -> None:
    nothing = {each.name: Range(0.0, 0.0) for each in fields(Expected)[1:]}
    idle = Expected("idle", **{**nothing, "ttft_p99_s": Range(np.nan, np.nan)})
    full = Expected("full", **{**nothing, "kv_usage": Range(0.98, 1.0)})
    rules = rules_of(alert_rules((idle, full), 0.0))
    found = {(rule["labels"]["server"], rule["alert"]) for rule in rules}
    assert ("idle", "LoratwinTtft") not in found and ("full", "LoratwinTtft") in found
    assert ("full", "LoratwinKvCache") not in found and ("idle", "LoratwinKvCache") in found


def test_ray_shows_metrics_under_names_of_its_own() -> None:
    rules = rules_of(watching("ray", expected(), 0.2)["watch/alerts.yaml"][0])
    assert all("ray_vllm_" in rule["expr"] and 'model_name="gpu-' in rule["expr"] for rule in rules)


def test_a_server_that_does_not_keep_up_has_nothing_to_expect() -> None:
    with pytest.raises(InputError, match=r"gpu-\d does not keep up with all rates 20 % higher"):
        expected_figures(placement(), [draw(workload(3000.0))], 0.2)


def test_a_folder_holds_what_bench_takes(tmp_path: Path) -> None:
    paths = deploy(placement(), "compose", tmp_path / "out", workload(), seeds=(0,))
    assert [str(path.relative_to(tmp_path / "out")) for path in paths] == [
        "compose.yaml", "watch/alerts.yaml", "watch/scrape.yaml", "bench/workload.yaml", "bench/placement.json"
    ]  # fmt: skip
    assert same_placement(load_placement(paths[-1]), placement())
    assert load_spec(paths[-2]) == workload()
    (job,) = yaml.safe_load(paths[2].read_text())["scrape_configs"]
    assert [each["targets"] for each in job["static_configs"]] == [["gpu-0:8000"], ["gpu-1:8000"]]


@pytest.mark.parametrize("name", ["example:support-desk", "example:mixed-ranks", "example:trace-replay"])
def test_a_workload_is_written_as_it_is_read(tmp_path: Path, name: str) -> None:
    assert load_spec(save_spec(load_spec(name), tmp_path / "again.yaml")) == load_spec(name)


def test_a_plan_of_one_gpu_is_deployed_by_the_same_code(tmp_path: Path) -> None:
    found = served()
    deploy_plan(found, spec(), "kubernetes", tmp_path)
    assert found.best is not None
    where = load_placement(tmp_path / "bench" / "placement.json")
    assert where.adapters == found.adapters and where.servers[0].config == found.best.config
    deployment = next(yaml.safe_load_all((tmp_path / "gpu-0.yaml").read_text()))
    words = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert words[words.index("--max-loras") + 1] == str(found.best.config.max_loras)
    rules = rules_of(yaml.safe_load((tmp_path / "watch" / "alerts.yaml").read_text()))
    seen = next(rule["annotations"]["expected"] for rule in rules if rule["alert"] == "LoratwinTraffic")
    assert float(seen.split()[0]) == pytest.approx(4.0, rel=0.1)  # as the workload asks


def test_of_a_plan_for_some_adapters_only_those_are_deployed(tmp_path: Path) -> None:
    found = overloaded()
    assert not found.serves_all
    deploy_plan(found, spec(400.0), "compose", tmp_path)
    (service,) = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"].values()
    assert len(service["command"]) - service["command"].index("--lora-modules") - 1 == len(found.served)
    assert (tmp_path / "watch" / "alerts.yaml").is_file() and not (tmp_path / "bench").exists()
    with pytest.raises(InputError, match="nothing works on this GPU"):
        deploy_plan(impossible(), spec(), "compose", tmp_path)


def test_the_commands_write_them(tmp_path: Path) -> None:
    save_placement(placement(), tmp_path / "placement.json")
    save_spec(workload(), tmp_path / "w.yaml")
    done = loratwin(
        "fleet", "deploy", "placement.json", "--to", "compose", "-o", "out", "--workload", "w.yaml", "--seeds", "1",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and "written: out/watch/alerts.yaml" in done.stdout, done.stderr
    refused = loratwin("plan", "w.yaml", *PLAN, "--deploy-to", "compos", cwd=tmp_path)
    assert refused.returncode == 2 and "unknown target 'compos'. Did you mean 'compose'" in refused.stderr


@slow
def test_plan_writes_them_too(tmp_path: Path) -> None:
    save_spec(workload(), tmp_path / "w.yaml")
    done = loratwin("plan", "w.yaml", *PLAN, "--deploy-to", "compose", cwd=tmp_path)
    assert done.returncode == 0 and "written: deploy/bench/workload.yaml" in done.stdout, done.stderr
    assert isinstance(load_placement(tmp_path / "deploy" / "bench" / "placement.json"), Placement)
