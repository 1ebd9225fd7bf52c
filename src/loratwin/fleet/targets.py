"""Shards as files for Compose, Kubernetes and the routers' own formats. Pure data; nothing is started.

Placement is said by shard: each server is a deployment of its own that lists its adapters, so that every system can
express it, whatever its router does. Formats: docs/reference/routers.md#files-to-deploy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.fleet.shards import Shard

DEPLOYED = find_engine(DEFAULT)
"""The engine whose servers the targets start: their formats are of no other."""

IMAGE = DEPLOYED.image[0].partition(":")[0]
FOLDER = "/adapters"
"""Where the adapters are assumed to lie, one folder of its name for each."""

OWN_IMAGES = {"dynamo"}
"""Targets whose images have versions of their own."""

Documents = dict[str, list[dict[str, Any]]]
"""File -> its YAML documents."""


def _arguments(shard: Shard) -> list[str]:
    modules = [DEPLOYED.options["lora_modules"].name, *shard.modules(FOLDER)] if shard.adapters else []
    return [shard.llm, *shard.options, *modules]


def compose(shards: Sequence[Shard], tag: str) -> Documents:
    """One service for each shard, GPUs and ports in order."""
    services, gpu = {}, 0
    for i, shard in enumerate(shards):
        devices = [str(gpu + j) for j in range(shard.gpus)]
        gpu += shard.gpus
        device = {"driver": "nvidia", "device_ids": devices, "capabilities": ["gpu"]}
        services[shard.name] = {
            "image": f"{IMAGE}:{tag}",
            "command": _arguments(shard),
            "volumes": [f"./adapters:{FOLDER}:ro"],
            "ports": [f"{8000 + i}:8000"],
            "shm_size": "8gb",
            "deploy": {"resources": {"reservations": {"devices": [device]}}},
        }
    return {"compose.yaml": [{"services": services}]}


def _pod(shard: Shard, tag: str, arguments: list[str], labels: dict[str, str]) -> dict[str, Any]:
    container = {
        "name": "vllm",
        "image": f"{IMAGE}:{tag}",
        "args": arguments,
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": str(shard.gpus)}},
        "volumeMounts": [{"name": "adapters", "mountPath": FOLDER, "readOnly": True}],
    }
    volume = {"name": "adapters", "persistentVolumeClaim": {"claimName": "adapters"}}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [volume]}}


def _deployment(shard: Shard, tag: str, arguments: list[str], labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": shard.name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": shard.name}},
            "template": _pod(shard, tag, arguments, {"app": shard.name, **labels}),
        },
    }


def kubernetes(shards: Sequence[Shard], tag: str) -> Documents:
    """A Deployment and a Service for each shard; adapters come from the claim `adapters`."""
    files: Documents = {}
    for shard in shards:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": shard.name},
            "spec": {"selector": {"app": shard.name}, "ports": [{"port": 8000, "targetPort": 8000}]},
        }
        files[f"{shard.name}.yaml"] = [_deployment(shard, tag, _arguments(shard), {}), service]
    return files


def production_stack(shards: Sequence[Shard], tag: str) -> Documents:
    """Values of its Helm chart: a modelSpec for each shard, which is the base model of its adapters."""
    specs, adapters = [], []
    for shard in shards:
        known = shard.values
        specs.append(
            {
                "name": shard.name, "repository": IMAGE, "tag": tag, "modelURL": shard.llm, "replicaCount": 1,
                "requestCPU": 8, "requestMemory": "64Gi", "requestGPU": shard.gpus, "enableLoRA": True,
                "vllmConfig": {
                    "maxModelLen": known["max_model_len"],
                    "maxNumSeqs": known["max_num_seqs"],
                    "maxLoras": known["max_loras"],
                    "gpuMemoryUtilization": float(str(known["gpu_memory_utilization"])),
                    "extraArgs": [
                        "--max-cpu-loras", str(known["max_cpu_loras"]), "--max-lora-rank", str(known["max_lora_rank"]),
                        "--max-num-batched-tokens", str(known["max_num_batched_tokens"]), *shard.profiled,
                    ],
                },
                "env": [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"}],
            }
        )  # fmt: skip
        for name in shard.adapters:
            source = {"type": "local", "adapterName": name, "adapterPath": f"{FOLDER}/{name}"}
            adapters.append(
                {
                    "name": f"{name}-{shard.name}", "baseModel": shard.name, "adapterSource": source,
                    "loraAdapterDeploymentConfig": {"algorithm": "default"},
                }
            )  # fmt: skip
    values = {
        "servingEngineSpec": {"modelSpec": specs},
        "loraController": {"enableLoraController": True},
        "loraAdapters": adapters,
    }
    return {"values.yaml": [values]}


def aibrix(shards: Sequence[Shard], tag: str) -> Documents:
    """A Deployment for each shard, and a ModelAdapter for each adapter that selects its shards' pods by a label."""
    holders: dict[str, list[str]] = {}
    for shard in shards:
        for name in shard.adapters:
            holders.setdefault(name, []).append(shard.name)
    sets = {key: f"loratwin/set-{i}" for i, key in enumerate(dict.fromkeys(map(tuple, holders.values())))}
    files: Documents = {}
    for shard in shards:
        labels = {"model.aibrix.ai/name": "base", "adapter.model.aibrix.ai/enabled": "true"}
        labels |= {label: "true" for key, label in sets.items() if shard.name in key}
        arguments = [shard.llm, "--served-model-name", "base", *shard.options]
        files[f"{shard.name}.yaml"] = [_deployment(shard, tag, arguments, labels)]
    files["adapters.yaml"] = [
        {
            "apiVersion": "model.aibrix.ai/v1alpha1",
            "kind": "ModelAdapter",
            "metadata": {"name": name, "labels": {"model.aibrix.ai/name": name, "model.aibrix.ai/port": "8000"}},
            "spec": {
                "baseModel": "base",
                "podSelector": {"matchLabels": {"model.aibrix.ai/name": "base", sets[tuple(servers)]: "true"}},
                "artifactURL": f"{FOLDER}/{name}",
            },
        }
        for name, servers in holders.items()
    ]
    return files


def kserve(shards: Sequence[Shard], tag: str) -> Documents:
    """An LLMInferenceService for each shard; adapters from the claim `adapters`."""
    skipped = ("enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank")
    files: Documents = {}
    for shard in shards:
        adapters = [{"name": name, "uri": f"pvc://adapters/{name}"} for name in shard.adapters]
        lora = {
            "maxRank": shard.values["max_lora_rank"],
            "maxAdapters": shard.values["max_loras"],
            "maxCpuAdapters": shard.values["max_cpu_loras"],
            "adapters": adapters,
        }
        others = {name: value for name, value in shard.values.items() if name not in skipped}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in others.items()]
        limits = {"limits": {"nvidia.com/gpu": str(shard.gpus)}}
        files[f"{shard.name}.yaml"] = [
            {
                "apiVersion": "serving.kserve.io/v1alpha2",
                "kind": "LLMInferenceService",
                "metadata": {"name": shard.name},
                "spec": {
                    "annotations": {"serving.kserve.io/lora-model-routing-strategy": "regex"},
                    "model": {"uri": f"hf://{shard.llm}", "name": shard.llm, "lora": lora},
                    "replicas": 1,
                    "router": {"route": {}, "gateway": {}, "scheduler": {}},
                    "template": {"containers": [{"name": "main", "args": arguments, "resources": limits}]},
                },
            }
        ]
    return files


def llm_d(shards: Sequence[Shard], tag: str) -> Documents:
    """Values of a modelservice release for each shard, and the scorers of the router before them."""
    files: Documents = {}
    for shard in shards:
        container = {
            "name": "vllm", "image": f"{IMAGE}:{tag}", "modelCommand": "vllmServe", "mountModelVolume": True,
            "resources": {"limits": {"nvidia.com/gpu": str(shard.gpus)}}, "args": _arguments(shard)[1:],
        }  # fmt: skip
        labels = {"llm-d.ai/inference-serving": "true", "loratwin/shard": shard.name}
        files[f"{shard.name}-values.yaml"] = [
            {
                "modelArtifacts": {"name": shard.llm, "uri": f"hf://{shard.llm}", "size": "100Gi", "labels": labels},
                "routing": {"servicePort": 8000, "proxy": {"enabled": False}},
                "prefill": {"create": False},
                "decode": {"replicas": 1, "parallelism": {"tensor": shard.gpus}, "containers": [container]},
            }
        ]
    weights = {"queue-scorer": 2, "kv-cache-utilization-scorer": 2, "lora-affinity-scorer": 4}
    profile = {"name": "default", "plugins": [{"pluginRef": name, "weight": w} for name, w in weights.items()]}
    files["router.yaml"] = [
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": [{"type": name} for name in weights],
            "schedulingProfiles": [profile],
        }
    ]
    return files


def ray(shards: Sequence[Shard], tag: str) -> Documents:
    """One application, an LLMConfig for each shard; clients ask for SHARD:ADAPTER."""
    skipped = ("tensor_parallel",)
    configs = []
    for shard in shards:
        engine = {name: value for name, value in shard.values.items() if name not in skipped}
        engine |= {"gpu_memory_utilization": float(str(engine["gpu_memory_utilization"]))}
        engine |= {"tensor_parallel_size": shard.gpus}
        configs.append(
            {
                "model_loading_config": {"model_id": shard.name, "model_source": shard.llm},
                "lora_config": {
                    "dynamic_lora_loading_path": "s3://adapters",
                    "max_num_adapters_per_replica": shard.values["max_loras"],
                },
                "engine_kwargs": engine,
                "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
            }
        )
    application = {
        "name": "llms",
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": configs},
    }
    return {"serve.yaml": [{"applications": [application]}]}


def dynamo(shards: Sequence[Shard], tag: str) -> Documents:
    """A graph for each shard with a model name of its own, and a DynamoModel for each adapter on it."""
    environment = [{"name": "DYN_LORA_ENABLED", "value": "true"}, {"name": "DYN_LORA_PATH", "value": FOLDER}]
    files: Documents = {}
    for shard in shards:
        arguments = ["--model", shard.llm, "--served-model-name", shard.name, *shard.options]
        container = {
            "name": "main", "image": f"nvcr.io/nvidia/ai-dynamo/vllm-runtime:{tag}",
            "command": ["python3", "-m", "dynamo.vllm"], "args": arguments, "env": environment,
            "resources": {"limits": {"nvidia.com/gpu": str(shard.gpus)}},
        }  # fmt: skip
        worker = {
            "name": "worker", "type": "worker", "replicas": 1, "modelRef": {"name": shard.name},
            "podTemplate": {"spec": {"containers": [container]}},
        }  # fmt: skip
        graph: dict[str, Any] = {
            "apiVersion": "nvidia.com/v1beta1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": shard.name},
            "spec": {"components": [{"name": "frontend", "type": "frontend", "replicas": 1}, worker]},
        }
        models = [
            {
                "apiVersion": "nvidia.com/v1beta1",
                "kind": "DynamoModel",
                "metadata": {"name": f"{name}-{shard.name}"},
                "spec": {
                    "modelName": name, "baseModelName": shard.name, "modelType": "lora",
                    "source": {"uri": f"s3://adapters/{name}"},
                },
            }
            for name in shard.adapters
        ]  # fmt: skip
        files[f"{shard.name}.yaml"] = [graph, *models]
    return files


TARGETS: dict[str, Callable[[Sequence[Shard], str], Documents]] = {
    "compose": compose,
    "kubernetes": kubernetes,
    "production-stack": production_stack,
    "aibrix": aibrix,
    "kserve": kserve,
    "llm-d": llm_d,
    "ray": ray,
    "dynamo": dynamo,
}
