"""What watches a deployed placement: where Prometheus finds its servers, and what should alarm it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loratwin.fleet.alerts import PLAIN, RAY, alert_rules, rules_object
from loratwin.fleet.expected import Expected
from loratwin.fleet.targets import Documents

POD_LABELS = {"kubernetes": "app", "production-stack": "model", "aibrix": "app", "llm-d": "loratwin/shard"}
"""Label by which the pods of a server are known, whose vLLM answers at port 8000."""

WITHOUT_OPERATOR = ("compose", "ray")
"""Targets outside Kubernetes: rules are a plain file there."""

FOLDER = "watch"


def watching(target: str, expected: Sequence[Expected], headroom: float) -> Documents:
    """Files for Prometheus, by schema (`alerts`, `PrometheusRule`, `scrape`) as those of the target itself."""
    rules = alert_rules(expected, headroom, RAY if target == "ray" else PLAIN)
    files: Documents = {f"{FOLDER}/alerts.yaml": [rules if target in WITHOUT_OPERATOR else rules_object(rules)]}
    names = [each.server for each in expected]
    if target == "compose":
        files[f"{FOLDER}/scrape.yaml"] = [_jobs(static_configs=[_static(name) for name in names])]
    elif target in POD_LABELS:
        files[f"{FOLDER}/scrape.yaml"] = [_pods(POD_LABELS[target], names)]
    return files


def _jobs(**how: Any) -> dict[str, Any]:
    return {"scrape_configs": [{"job_name": "loratwin", **how}]}


def _static(name: str) -> dict[str, Any]:
    return {"targets": [f"{name}:8000"], "labels": {PLAIN.label: name}}


def _pods(label: str, names: Sequence[str]) -> dict[str, Any]:
    known = "__meta_kubernetes_pod_label_" + label.replace("/", "_")
    return _jobs(
        kubernetes_sd_configs=[{"role": "pod"}],
        relabel_configs=[
            {"source_labels": [known], "regex": "|".join(names), "action": "keep"},
            {"source_labels": [known], "target_label": PLAIN.label, "action": "replace"},
            {
                "source_labels": ["__meta_kubernetes_pod_ip"],
                "regex": "(.+)",
                "replacement": "$1:8000",
                "target_label": "__address__",
                "action": "replace",
            },
        ],
    )
