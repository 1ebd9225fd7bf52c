"""A profile without measurement: what fitted profiles taught, scaled to another GPU, LLM, engine or number of GPUs.

Each coefficient is split into what hardware and shapes explain and what they do not; the second is taken from the
fitted profiles ("references"), their mean where there are several:

- weights, tokens, context, sequences: the sum of the GPU's measured operations over the LLM's layers, or of those of
  the GPU that is most like it (`loratwin.perf.operations`), all-reduces of tensor parallelism included;
- launches and the host: by generation, learned from the references of the same one (`loratwin.perf.step_overhead`);
- LoRA kernels: a time per layer, in inverse proportion to the multiprocessors (they are bound by the number of blocks);
- bringing adapters in: a time per layer, since it is bound by the number of tensors (engine.md 2.3);
- the scheduler and the front end: as they are; the memory: by rules of the version (`loratwin.perf.memory_rules`).

Tensor parallelism: weights, heads and operations are shared; LoRA is shared by half (A or B of each module stays whole,
engine.md 2.2); each layer adds two all-reduces (Megatron-LM, arXiv 1909.08053).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import hypot
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel

from loratwin.engines.versions import UNTOLD, Generation, engine_version, generation_of, profile_run_of
from loratwin.errors import InputError
from loratwin.llms import LlmShapes, check_dealt, speed_unknown
from loratwin.perf.domain import Domain
from loratwin.perf.frontend import Frontend
from loratwin.perf.gpus import Gpu
from loratwin.perf.loading import LoadingModel
from loratwin.perf.memory import AssumedMemory, MemoryModel, ReplayedMemory
from loratwin.perf.memory_rules import CONTEXT_GIB, NOT_SORTING, SORTING, Sampler, memory_rules, sampler_bytes
from loratwin.perf.operations.step import BaseStep, StepSum
from loratwin.perf.operations.tables import Operations, operations_of
from loratwin.perf.profile import Card, Profile, load_profile, profile_names, shipped_names
from loratwin.perf.step_overhead import Launch, assumed_base, launch_of, reference_gpu
from loratwin.perf.step_time import StepTimeModel
from loratwin.perf.uncertainty import LEVELS, Quantiles, Regime, Uncertainty, widened

FIRST_ENGINE_OTHER_GIB = 0.13
"""Kernels and handles that vLLM's first engine charges: the median over 14 starts of Llama-2-13B without adapters
(0.09 to 0.13; `batch_sweep_and_replication.csv`)."""

RELATIVE_ERRORS = {
    "step_time.skipped_s": 0.5, "step_time.lora_s": 0.4, "step_time.slot_s": 0.8,
    "step_time.slot_rank_s": 1.0, "step_time.slot_tile_s": 0.4, "step_time.adapter_s": 0.3,
    "step_time.adapter_rank_s": 0.6, "step_time.adapter_tile_s": 0.5, "step_time.adapter_small_s": 0.5,
    "step_time.lora_token_s": 0.7, "step_time.lora_token_rank_s": 0.7,
    "loading.swap_in_s": 0.5, "loading.swap_in_padded_s": 0.5, "loading.disk_load_s": 1.0,
    "loading.disk_load_per_rank_s": 1.0,
}  # fmt: skip
"""Standard errors of what is scaled from references, relative: about the difference of the two once scaled, by
judgement where there is only one figure."""

FRONTEND_ERROR = 1.8
"""Of `frontend.overhead_s`, wherever the server stands: four hosts had 7, 9 to 13, 44 and 47 ms (public loops of 0.23,
0.15 and 0.11, and our own 0.25.1), which is a factor of 3.3 beside the 9 ms taken."""

TRANSFER = {
    "total_throughput": 0.58, "ttft_mean_ms": 0.60, "ttft_median_ms": 0.58, "tpot_mean_ms": 0.68, "itl_mean_ms": 0.68,
}  # fmt: skip
"""Half-widths of 90 % intervals of log(measured / predicted) of saturated servers that nothing was fitted to: GPUs and
engines of public runs, four to seven (`loratwin.validate.transfer` computes them; in the report of `loratwin validate
public`; of the throughputs the larger). Most of it is one H100 that took 1.6 to 1.9 times as long for large steps."""

OTHER_SAMPLER = (1 - NOT_SORTING / SORTING) / 1.645
"""Relative error of the sampler's bytes where images differ in whether FlashInfer is there (0.9 to 0.12, engine.md
1.8): with it lies at the end of the 90 % interval around what is taken, without it."""

OTHER_GPU = 1.7
"""Times as far off on a GPU that no reference was measured on."""

BASE_ERRORS = {
    "weights_s": 0.04, "token_s": 0.08, "roofline_power": 0.15, "context_s": 0.12, "prefill_context_s": 0.15,
    "running_s": 0.25, "prefill_step_s": 1.0, "eager_s": 0.5, "expert_s": 0.2,
}  # fmt: skip
"""Of what is summed from operations: what tables and fits of single operations are off by (products 5 to 7 % between
their knots, four or five sizes in a layer; attention 4 to 12 %, experts 10 to 24 %)."""

WITHOUT_TABLE = 2.0
"""Times as far off on a GPU whose operations were not measured, by judgement."""

NOT_COMPARED = 1.5
"""Times as far off for LLMs with experts, windows and so on, by judgement."""

_NO_STEP = "no step of an LLM with experts, windows, linear attention or quantized weights was compared"

LATENT_LAYER_ERROR_S = 2e-5
"""Standard error of a layer of latent attention, whatever the step: modules of B200 take 35 us less than those of
B300, GB200 and GB300 with the same kernels and weights."""

LATENT_ERRORS = {"token_s": 0.12, "prefill_step_s": 0.4}
"""In place of those of BASE_ERRORS: prompts of modules with weights of FP8 and NVFP4 were 4 to 24 % off (mean); most
of what a prompt adds to a step is measured there."""

LATENT_SINCE = (0, 11, 0)
"""From where on latent attention is taken to run the kernels that were measured (0.24); before, errors are those of a
GPU without a table. By judgement: engine.md 5.5 names the kernels of 0.24 alone."""

LAUNCH_ERROR = 0.5
"""Of what a step takes beside its operations: public steps leave 0 to 37 us a layer, 13 are taken."""


class Work(NamedTuple):
    """What hardware and shapes say of one GPU's part of an LLM."""

    gpu: Gpu
    llm: LlmShapes
    tensor_parallel: int

    @property
    def compute_s(self) -> float:
        """Seconds per token in the dense layers at the GPU's peak: a multiplication and an addition per weight."""
        return 2 * self._parameters / self.gpu.flops

    @property
    def _parameters(self) -> float:
        embedding = 0 if self.llm.tied_embeddings else self.llm.vocab_size * self.llm.hidden_size
        return (self.llm.num_parameters - embedding) / self.tensor_parallel

    @property
    def layers(self) -> int:
        return self.llm.num_layers

    @property
    def lora_s(self) -> float:
        """What the LoRA kernels' times are in proportion to."""
        return self.layers / self.gpu.sms * (1 + 1 / self.tensor_parallel) / 2


def assume(
    gpu: Gpu, llm: LlmShapes, engine: str = UNTOLD, tensor_parallel: int = 1, references: Sequence[Profile] = ()
) -> Profile:
    """A profile of a GPU and an LLM that were not measured, marked as such and with wide uncertainty.

    Parameters
    ----------
    tensor_parallel
        GPUs that share the LLM.
    references
        Fitted profiles to learn from, of GPUs in the table; none: those that ship with the package.

    Raises
    ------
    InputError
        An engine that the twin does not know, or GPUs that heads or layers cannot be dealt to evenly.
    """
    if unknown := speed_unknown(llm):
        raise InputError(f"{llm.name}: how fast its steps are is not known ({unknown}); what it takes of memory is")
    check_dealt(llm, tensor_parallel)
    fitted = list(references) or shipped_references()
    target = Work(gpu, llm, tensor_parallel)
    known = generation_of(engine)
    launch = launch_of(engine, fitted)
    base = assumed_base(StepSum(operations_of(gpu), llm, tensor_parallel, launch.layer_s), engine)
    count = "" if tensor_parallel == 1 else f"{tensor_parallel}x"
    profile = Profile(
        name=f"{count}{gpu.name}/{engine}/{llm.name}",
        engine=engine,
        behaviour=known.behaviour,
        llm=llm,
        memory=_memory(target, engine, fitted),
        step_time=_step_time(target, base, launch, fitted),
        loading=LoadingModel(
            **{name: target.layers * _learned(fitted, "loading", name, _layers) for name in _names(LoadingModel)}
        ),
        frontend=Frontend(**{name: _learned(fitted, "frontend", name) for name in _names(Frontend)}),
        domain=_domain(fitted[0].domain, known.generation),
        card=_card(gpu, llm, base, fitted),
        origin="assumed",
    )
    return profile.model_copy(update={"uncertainty": _uncertainty(profile, gpu, launch, fitted)})


def _domain(measured: Domain, generation: Generation) -> Domain:
    """That of a reference; what the engine fills by default is no departure."""
    ends = (*measured.gpu_memory_utilization, generation.gpu_memory_utilization)
    return measured.model_copy(update={"gpu_memory_utilization": (min(ends), max(ends))})


def profile_for(gpu: Gpu, llm: LlmShapes, engine: str, tensor_parallel: int = 1) -> Profile:
    """The fitted profile of such a server where there is one, else an assumed one.

    Raises
    ------
    InputError
        As `assume`.
    """
    made = assume(gpu, llm, engine, tensor_parallel)
    return load_profile(made.name) if made.name in profile_names() else made


def assume_memory(
    gpu: Gpu,
    llm: LlmShapes,
    engine: str = UNTOLD,
    tensor_parallel: int = 1,
    references: Sequence[Profile] = (),
    sampler: Sampler | None = None,
) -> AssumedMemory | ReplayedMemory:
    """The memory of `assume` alone: for `kv_capacity`, also of vLLM's first engine, of which nothing else is known.

    Parameters
    ----------
    sampler
        What the server draws tokens with, where that is told; None: what its version does by default.

    Raises
    ------
    InputError
        An engine whose memory is not known, or its first one on several GPUs.
    """
    profile_run = profile_run_of(engine)
    if profile_run is None:
        check_dealt(llm, tensor_parallel)
        fitted = list(references) or shipped_references()
        return _memory(Work(gpu, llm, tensor_parallel), engine, fitted, sampler)
    if tensor_parallel != 1:
        raise InputError(f"tensor_parallel = {tensor_parallel}, but of {engine} it must be 1: others were not read")
    return ReplayedMemory(
        gpu_gib=gpu.memory_gib, other_gib=FIRST_ENGINE_OTHER_GIB, extra_vocabulary=256, profile_run=profile_run
    )


def load_references(names: Sequence[str]) -> list[Profile]:
    """Fitted profiles to learn from, by name or file.

    Raises
    ------
    InputError
        As `load_profile`, or a profile that is assumed itself, or of a GPU that is not in the table.
    """
    profiles = [load_profile(name) for name in names]
    for name, profile in zip(names, profiles, strict=True):
        if profile.origin != "fitted":
            raise InputError(f"reference {name}: it is assumed itself, but must be fitted to measurements")
        reference_gpu(profile)
    return profiles


def shipped_references() -> list[Profile]:
    """The fitted profiles that come with the package."""
    profiles = [load_profile(name) for name in shipped_names()]
    return [profile for profile in profiles if profile.origin == "fitted"]


Unit = Callable[[Work], float]


def _one(work: Work) -> float:
    return 1.0


def _layers(work: Work) -> float:
    return float(work.layers)


def _lora(work: Work) -> float:
    return work.lora_s


def _compute(work: Work) -> float:
    return work.compute_s


def _learned(references: Sequence[Profile], part: str, name: str, unit: Unit = _one) -> float:
    """A coefficient in units of what explains it, the mean over the references."""
    return fmean(getattr(getattr(reference, part), name) / unit(_work(reference)) for reference in references)


def _work(reference: Profile) -> Work:
    return Work(reference_gpu(reference), reference.llm, reference.memory.tensor_parallel)


def _names(part: type[BaseModel]) -> list[str]:
    return list(part.model_fields)


def _memory(target: Work, engine: str, references: Sequence[Profile], sampler: Sampler | None = None) -> AssumedMemory:
    """By the version's rules; what references of the same ones measured is taken from them."""
    rules, several = memory_rules(engine, target.llm), target.tensor_parallel > 1
    linked = target.gpu.has_nvlink
    alike = [reference for reference in references if memory_rules(reference.engine, target.llm).since == rules.since]
    alike = [profile for profile in alike if type(profile.memory) is MemoryModel and profile.memory.kv_gib is None]
    copies = sampler_bytes(rules, sampler) / 4
    unsure = sampler is None and not several and rules.since == (0, 9, 0)  # FlashInfer was there in some images
    return AssumedMemory(
        gpu_gib=target.gpu.memory_gib,
        gpu_error_gib=target.gpu.memory_error_gib,
        engine=engine,
        other_gib=(fmean(profile.memory.other_gib for profile in alike) if alike else rules.other_gib)
        + several * rules.several_gib,
        other_error_gib=hypot(rules.other_error, several * rules.several_error),
        sampler_copies=fmean(profile.memory.sampler_copies for profile in alike) if alike else copies,
        sampler_error=OTHER_SAMPLER if unsure else 0.05,
        state_copies=rules.state_bytes / 4,
        context_gib=0.0 if rules.context_inside else CONTEXT_GIB,
        graph_mib=rules.graph_mib,
        lora_graph_mib=rules.lora_graph_mib,
        several_graph_mib=several * (not linked) * rules.several_graph_mib,
        graphs_counted=rules.graphs_counted,
        extra_vocabulary=generation_of(engine).generation.extra_vocabulary,
        tensor_parallel=target.tensor_parallel,
    )


_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("graph_tokens", "skipped_s"), _one),
    **dict.fromkeys(("lora_s", "slot_s", "slot_rank_s", "slot_tile_s"), _lora),
    **dict.fromkeys(("adapter_s", "adapter_rank_s", "adapter_tile_s", "adapter_small_s"), _lora),
    **dict.fromkeys(("lora_token_s", "lora_token_rank_s"), _compute),
    **dict.fromkeys(("lora_decode_s", "lora_decode_rank_s"), _compute),
}


def _step_time(target: Work, base: BaseStep, launch: Launch, references: Sequence[Profile]) -> StepTimeModel:
    learned = {name: unit(target) * _learned(references, "step_time", name, unit) for name, unit in _UNITS.items()}
    return StepTimeModel(
        **learned,
        weights_s=base.weights_s + launch.step_s,
        token_s=base.token_s * launch.computing,
        roofline_power=base.roofline_power,
        running_s=base.running_s + launch.request_s,
        context_s=base.context_s,
        prefill_context_s=base.prefill_context_s,
        expert_s=base.expert_s,
        expert_share=base.expert_share,
        mixed_context_s=base.mixed_context_s,
        mixed_request_s=base.mixed_request_s,
        reread_context_s=base.reread_context_s,
        reread_beyond=base.reread_beyond,
        prefill_step_s=launch.prefill_step_s + base.prefill_step_s,
        eager_s=launch.eager_s,
    )


def _card(gpu: Gpu, llm: LlmShapes, base: BaseStep, references: Sequence[Profile]) -> Card:
    names, operations = ", ".join(reference.name for reference in references), operations_of(gpu)
    whose = "measured operations" if operations.measured else f"operations as measured on {operations.like}"
    return Card(
        fitted_on=f"nothing: {whose}, summed over the layers, and shapes",
        command="loratwin profiles assume",
        source=f"{gpu.source}; NVIDIA AIConfigurator (Apache-2.0); scaled from {names}",
        held_out_error={},
        notes=(
            *(() if llm.is_dense else (_NO_STEP,)),
            *_latent_notes(llm, operations),
            f"the coefficients say the sum of operations to {base.error:.1%} (mean; worst {base.worst:.0%})",
            "docs/findings/profiles.md says how far such profiles were off",
        ),
    )


def _latent_layers(llm: LlmShapes) -> int:
    return sum(kind.count for kind in llm.kinds if kind.attention.kind == "latent")


def _latent_notes(llm: LlmShapes, operations: Operations) -> tuple[str, ...]:
    """What is to be said of latent attention."""
    if not _latent_layers(llm):
        return ()
    notes = [f"latent attention as DeepSeek-V3's was measured on {operations.latent.like} with vLLM 0.24"]
    if any(kind.attention.kind == "linear" for kind in llm.kinds):
        notes.append("Kimi delta attention is taken to be as fast as the gated delta rule, which was measured")
    return tuple(notes)


def _uncertainty(profile: Profile, gpu: Gpu, launch: Launch, references: Sequence[Profile]) -> Uncertainty:
    measured = {_work(reference).gpu.name for reference in references}
    factor = 1.0 if gpu.name in measured else OTHER_GPU
    errors = {"frontend.overhead_s": FRONTEND_ERROR * profile.frontend.overhead_s}
    for name, relative in RELATIVE_ERRORS.items():
        part, key = name.split(".")
        errors[name] = relative * factor * float(getattr(getattr(profile, part), key))
    memory = profile.memory
    if isinstance(memory, AssumedMemory):
        errors["memory.other_gib"] = hypot(memory.other_error_gib, memory.gpu_error_gib)
        errors["memory.sampler_copies"] = memory.sampler_error * memory.sampler_copies
    known = references[0].uncertainty
    return Uncertainty(
        standard_errors=errors | _base_errors(profile, gpu, launch),
        residual=_residual(known.residual if known else {}),
        source="errors of operations and judgement from the fitted profiles; docs/findings/profiles.md",
    )


def _residual(known: Mapping[Regime, Mapping[str, Quantiles]]) -> dict[Regime, dict[str, Quantiles]]:
    """A reference's held-out errors, and what saturated servers were off elsewhere, in quadrature."""
    saturated = dict(known.get("saturated", {}))
    for figure, half_width in TRANSFER.items():
        there = saturated.get(figure, (0.0,) * len(LEVELS))
        saturated[figure] = widened(there, half_width)
    return {**{regime: dict(figures) for regime, figures in known.items()}, "saturated": saturated}


def _base_errors(profile: Profile, gpu: Gpu, launch: Launch) -> dict[str, float]:
    factor = 1.0 if operations_of(gpu).measured else WITHOUT_TABLE
    factor *= 1.0 if profile.llm.is_dense else NOT_COMPARED
    latent = _latent_layers(profile.llm)
    if latent:
        factor = max(factor, NOT_COMPARED * _latent_factor(gpu, profile.engine))
    step, known = profile.step_time, BASE_ERRORS | (LATENT_ERRORS if latent else {})
    errors = {name: factor * relative * getattr(step, name) for name, relative in known.items()}
    beside = launch.step_s + launch.layer_s * profile.llm.num_layers
    errors["weights_s"] = hypot(errors["weights_s"], LAUNCH_ERROR * beside)
    if latent:
        errors["weights_s"] = hypot(errors["weights_s"], LATENT_LAYER_ERROR_S * latent)
    return {f"step_time.{name}": error for name, error in errors.items()}


def _latent_factor(gpu: Gpu, engine: str) -> float:
    """Times as far off where latent attention was measured on another GPU, or other kernels run."""
    known = operations_of(gpu).latent.like == gpu.name and engine_version(engine) >= LATENT_SINCE
    return 1.0 if known else WITHOUT_TABLE
