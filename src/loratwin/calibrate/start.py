"""Where a fit to clients' figures starts: a profile that the user gives, or one assumed for the GPU and LLM."""

from __future__ import annotations

import re

from loratwin.calibrate.evidence import RecordedServer, recorded_engine
from loratwin.engines.versions import UNTOLD
from loratwin.errors import DataError
from loratwin.llms import LlmShapes
from loratwin.perf import Profile, assume, find_gpu
from loratwin.perf.gpus import Gpu, gpu_names


def start_for(server: RecordedServer, llm: LlmShapes, given: Profile | None) -> Profile:
    """The start as a profile of the records' engine and LLM.

    Raises
    ------
    DataError
        None was given, and the GPU is not one that a profile can be assumed for.
    """
    start = given or _assumed(server, llm)
    on_cpu = server.on_cpu or (not server.gpu and start.memory.kv_gib is not None)
    update: dict[str, object] = {"llm": llm}
    if server.engine is not None:
        same = on_cpu == server.on_cpu
        engine = server.engine if same else recorded_engine(server.engine_version, on_cpu)
        update |= {"engine": server.engine_version, "behaviour": engine.behaviour}
    if on_cpu or server.eager:
        model = start.step_time  # each step is one without a graph: what that costs belongs to all
        eager = {"graph_tokens": 0.0, "eager_s": 0.0, "weights_s": model.weights_s + model.eager_s}
        update["step_time"] = model.model_copy(update=eager)
    return start.model_copy(update=update)


def _assumed(server: RecordedServer, llm: LlmShapes) -> Profile:
    gpu = gpu_like(server.gpu)
    if gpu is None:
        where = f"GPU {server.gpu!r} is not in the table" if server.gpu else "no record names its GPU"
        if server.gpu == "cpu":
            where = "nothing is assumed of a CPU"
        raise DataError(
            f"without logged engine steps a fit needs a profile to start from, and {where}: name one, or its file, "
            "with --start (loratwin profiles list; loratwin profiles assume makes one)"
        )
    return assume(gpu, llm, server.engine_version or UNTOLD, server.tensor_parallel)


def gpu_like(name: str) -> Gpu | None:
    """The GPU of the table that NVML calls so, as "NVIDIA H100 80GB HBM3"; None if there is none of the kind.

    Of several of a kind the one with most words of the name, then with the nearest memory, then not the one for PCIe.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    memory = next((float(word[:-2]) for word in words if re.fullmatch(r"[0-9]+gb", word)), 0.0)

    def likeness(gpu: str) -> tuple[float, ...]:
        parts = gpu.split("-")
        off = abs(find_gpu(gpu).memory_gib - memory) if memory else 0.0
        return (sum(part in words for part in parts), -round(off / 4), "pcie" not in parts)

    of_kind = [gpu for gpu in gpu_names() if gpu.split("-")[0] in words]
    return find_gpu(max(of_kind, key=likeness)) if of_kind else None
