"""Every figure and table of the two works, and what becomes of it here.

Numbers of figures and tables are given where they are known to us; a work's other figures are named by what they show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from loratwin.report.figures.source import PROFILES, RECORDS, Made, Source

ADAPTERS, MEMORY = "2508.08343", "2503.08311"
OWN = "own records"

WORKS = {
    ADAPTERS: "Adapters on one GPU (arXiv 2508.08343)",
    MEMORY: "The batch, and replicas on one GPU (arXiv 2503.08311)",
    OWN: "Your own records",
}


@dataclass(frozen=True)
class Entry:
    """A figure or table.

    Parameters
    ----------
    name
        Of its part of the page; its files are named after its charts and tables.
    published
        Its number in the work, or what it is called there.
    measured, simulated
        What of it is which; empty: nothing is.
    needs
        Files of the data folder that it is made of.
    made_by
        Module of this package and function, `adapters.memory_overhead`; empty: it is not made.
    why_not
        Why it is not made.
    """

    name: str
    work: str
    published: str
    title: str
    measured: str = ""
    simulated: str = ""
    needs: tuple[str, ...] = ()
    made_by: str = ""
    why_not: str = ""

    @property
    def state(self) -> str:
        """What can become of it where its data are there: made, made from simulation, or not possible."""
        if self.why_not:
            return "not possible"
        return "made" if self.measured else "made from simulation"

    def make(self, source: Source) -> Made:
        """Make it; its module is imported only now."""
        module, function = self.made_by.split(".")
        maker: Callable[[Source], Made] = getattr(import_module(f"loratwin.report.figures.{module}"), function)
        return maker(source)


_SWEEP = "batch_sweep_and_replication.csv"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "motivation", ADAPTERS, "Figure 1", "Throughput against served adapters: slots, rates, ranks, lengths",
        simulated="everything: the twin of Llama-3.1-8B on an H100 (published: Llama-2-7B)",
        made_by="twin.motivation",
    ),
    Entry(
        "measured-grid", ADAPTERS, "Figure 1", "Throughput against served adapters, measured, by slots",
        measured="everything: one-hour runs of Llama-3.1-8B and Qwen-2.5-7B (published: Llama-2-7B)",
        needs=("serving_optimum.csv",), made_by="adapters.measured_grid",
    ),
    Entry(
        "memory-overhead", ADAPTERS, "Figure 2", "Throughput, batch and KV cache against loaded adapters",
        measured="everything", needs=("llama2_7b_overheads.csv",), made_by="adapters.memory_overhead",
    ),
    Entry(
        "compute-overhead", ADAPTERS, "Figure 3", "Throughput and ITL against distinct adapters in the batch",
        measured="everything", needs=("llama2_7b_overheads.csv",), made_by="adapters.compute_overhead",
    ),
    Entry(
        "loading", ADAPTERS, "Figure 4", "Load time / latency of a request, by rank and source",
        measured="load times", simulated="latency of a request that is alone",
        needs=("adapter_loading.csv",), made_by="twin.loading",
    ),
    Entry(
        "s-lora", ADAPTERS, "Figure 5", "S-LoRA: served adapters and rates",
        why_not="S-LoRA, another engine, was not measured in the published tables, and the twin does not know it",
    ),
    Entry(
        "kv-capacity", ADAPTERS, "the twin's memory estimator", "KV cache against slots and rank",
        measured="what servers told at start", simulated="the twin's capacity",
        needs=("kv_capacity.csv",), made_by="adapters.kv_capacity",
    ),
    Entry(
        "step-times", ADAPTERS, "the twin's step time", "Time of a step against the batch",
        measured="steps in the server's log", simulated="the twin's formula",
        needs=("backbone_latency.csv",), made_by="adapters.step_times",
    ),
    Entry(
        "twin-accuracy", ADAPTERS, "the table of errors", "The twin beside measurement, with its error table",
        measured="172 one-hour runs", simulated="the same servers by the twin",
        needs=("serving_validation.csv",), made_by="twin.accuracy",
    ),
    Entry(
        "models", ADAPTERS, "the table of models", "Learned models: advice against the best measured",
        measured="440 one-hour runs", simulated="advice of the twin and of the learned model that ships",
        needs=("serving_optimum.csv",), made_by="twin.models",
    ),
    Entry(
        "rules", ADAPTERS, "the simplified trees", "Rules that need no computer",
        why_not="made of simulated workloads by another command: loratwin learn generate, then loratwin learn rules",
    ),
    Entry(
        "drawings", ADAPTERS, "drawings of the system, the twin and the pipeline", "How it is built",
        why_not="drawings, not data; ours are in DESIGN.md",
    ),
    Entry(
        "batch", MEMORY, "throughput, latency and KV cache against the batch, with the knee",
        "Throughput, ITL and KV cache against the batch; the batch advised",
        measured="2,000 requests at once on vLLM's first engine",
        simulated="the same by assumed profiles of vLLM 0.8.5",
        needs=(_SWEEP,), made_by="batch.batches",
    ),
    Entry(
        "knee", MEMORY, "the knee, and the table of memory", "What the KV cache buys, efficiency, memory freed",
        measured="throughput and KV cache", needs=(_SWEEP,), made_by="batch.knees",
    ),
    Entry(
        "phases", MEMORY, "shares of prefill and decode", "Time by phase against the batch",
        simulated="everything", needs=(_SWEEP,), made_by="batch.phases",
    ),
    Entry(
        "step-parts", MEMORY, "shares of kernels", "Parts of a decode step against the batch",
        simulated="everything: the sum of operations that others measured",
        needs=(_SWEEP,), made_by="batch.kernel_shares",
    ),
    Entry(
        "roofline", MEMORY, "the roofline", "Attention and products of matrices on the GPU's data sheet",
        simulated="operations and bytes from shapes, times from measured operations",
        needs=(_SWEEP,), made_by="batch.roofline",
    ),
    Entry(
        "stalls", MEMORY, "stalled cycles, DRAM throughput, cache hit rates", "What kernels wait for",
        why_not="the published Nsight reports are not to be had; of your own profiles loratwin report kernels makes it",
    ),
    Entry(
        "replication", MEMORY, "bars and table of replicas", "One, two and four replicas with MPS",
        measured="throughput and ITL", simulated="the same, predicted from the sweep of one server",
        needs=(_SWEEP,), made_by="batch.replication",
    ),
    Entry(
        "own-batch", OWN, "as arXiv 2503.08311", "Throughput, latency and KV cache against the batch",
        measured="your records", needs=(RECORDS,), made_by="records.own_batches",
    ),
    Entry(
        "own-adapters", OWN, "as arXiv 2508.08343, Figures 1 to 3", "Throughput and latency against served adapters",
        measured="your records", needs=(RECORDS,), made_by="records.own_adapters",
    ),
    Entry(
        "own-twin", OWN, "as arXiv 2508.08343", "The twin beside measurement",
        measured="your records", simulated="the twin of --profile", needs=(RECORDS,), made_by="records.own_twin",
    ),
    Entry(
        "own-kernels", OWN, "as arXiv 2503.08311", "Kernels: shares by batch, roofline, stalls, caches",
        measured="your GPU profiles", needs=(PROFILES,), made_by="records.own_kernels",
    ),
)  # fmt: skip
