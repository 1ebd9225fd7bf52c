"""What an engine step takes beside the GPU's operations, by generation: small kernels, launches, scheduler, host.

Up to 0.10 vLLM replays its graphs in pieces and launches attention between them; from 0.11 on a step of decode requests
is one graph (`cudagraph_mode` FULL_AND_PIECEWISE); from 0.14 on the host prepares a step while the one before computes
(`async_scheduling`). A generation that fitted profiles are of is learned from them: what they take beyond the sum of
their operations. Of the others a few measured steps say something, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from loratwin import kernel
from loratwin.engines.versions import Version, default_limits, engine_version
from loratwin.kernel.types import StepFeatures
from loratwin.perf.gpus import Gpu, find_gpu
from loratwin.perf.operations.step import BaseStep, Steps, StepSum, base_step
from loratwin.perf.operations.tables import operations_of
from loratwin.perf.profile import Profile

KV_TOKENS = 400_000
"""The most that decode requests of a step hold together where its coefficients are fitted."""


CONTEXT, MANY, PROMPT = 300, 256, 2048
"""Where fitted profiles are compared with the sum: tokens of a request, requests of a step, prompt tokens of a step."""


class Launch(NamedTuple):
    """Seconds beside the operations."""

    layer_s: float  # for each layer of every step: norms, rotation, gate, cache write; and their launches
    step_s: float  # for every step: what the host does between two
    request_s: float  # for each running request
    prefill_step_s: float  # for a step that holds prefill: the batch changed, and its graphs are in pieces
    eager_s: float = 0.0  # for a step beyond the graphs
    computing: float = 1.0  # times what many tokens take


class _Since(NamedTuple):
    """What is known of a generation."""

    since: Version
    launch: Launch | None  # None: learned from fitted profiles


_GENERATIONS = (
    _Since((0, 8, 5), None),
    _Since((0, 11, 0), Launch(11e-6, 0.7e-3, 15e-6, 2e-3)),
    _Since((0, 14, 0), Launch(11e-6, 0.4e-3, 12e-6, 1e-3)),
    _Since((0, 20, 0), Launch(11e-6, 0.0, 12e-6, 1e-3)),
)
"""From few points each. `layer_s`: what three public decode steps of 0.23 leave (9 to 12 us a layer; all of 0.14 or
later up to 37). `step_s`: what four steps of 0.11 leave beside (31 us x 36 layers), and five of 0.15 (0.4 to 1.2 ms).
`request_s` of 0.11: the slope of 0.8.5, where the host waits, too (15 us); from 0.14 on what steps of 122 to 242
requests left on our H100 (0.25.1: 11 to 21 us). `prefill_step_s`: judgement."""


def launch_of(engine: str, references: Sequence[Profile]) -> Launch:
    """What a version takes beside its operations; learned from the references of its generation, if there are any."""
    wanted = engine_version(engine)
    generation = _generation(wanted)
    alike = [reference for reference in references if _generation(engine_version(reference.engine)) is generation]
    if alike:
        return Launch(*map(fmean, zip(*(learned_launch(reference) for reference in alike), strict=True)))
    known = generation.launch or _GENERATIONS[1].launch
    assert known is not None
    return known


def _generation(version: Version) -> _Since:
    older = [generation for generation in _GENERATIONS if generation.since[:2] <= version[:2]]
    return (older or _GENERATIONS[:1])[-1]


def learned_launch(reference: Profile) -> Launch:
    """What a fitted profile takes beyond the sum of its operations: with one request, with many, and in prefill."""
    step = reference.step_time
    layer_s = max(0.0, _beyond(reference, 0.0, 1)) / reference.llm.num_layers
    base = base_of(reference, layer_s)
    power = base.roofline_power
    computed = max(0.0, float(step.dense_s(np.array([float(PROMPT)]))[0]) ** power - base.weights_s**power) ** (
        1 / power
    )
    return Launch(
        layer_s=layer_s,
        step_s=0.0,
        request_s=max(0.0, _beyond(reference, layer_s, MANY)) / MANY,
        prefill_step_s=step.prefill_step_s,
        eager_s=step.eager_s,
        computing=computed / (base.token_s * PROMPT),
    )


def _beyond(reference: Profile, layer_s: float, batch: int) -> float:
    """Seconds that a decode step of a fitted profile takes beyond the sum."""
    return _decode_s(reference, batch) - float(base_of(reference, layer_s).seconds(_decoding(batch))[0])


def _decoding(batch: int) -> Steps:
    return Steps(*(np.array([float(number)]) for number in (batch, CONTEXT, 0, 0, batch)))


def _decode_s(reference: Profile, batch: int) -> float:
    """Seconds of a decode step without LoRA."""
    nothing = dict.fromkeys(StepFeatures._fields, 0)
    decoding = {"decode_requests": batch, "running": batch, "decode_context": CONTEXT * batch}
    return float(kernel.step_time_s(reference.step_time.resolve(0, 8), StepFeatures(**nothing | decoding)))


def base_of(reference: Profile, layer_s: float) -> BaseStep:
    """The sum of operations for a fitted profile's GPU, LLM and engine."""
    of = StepSum(operations_of(reference_gpu(reference)), reference.llm, reference.memory.tensor_parallel, layer_s)
    return assumed_base(of, reference.engine)


def assumed_base(of: StepSum, engine: str) -> BaseStep:
    """The kernel's coefficients for a sum, over what a server of this version does by default."""
    gpu = of.operations.gpu
    limits = default_limits(engine, gpu.memory_gib, gpu.name)
    return base_step(of, limits.max_num_seqs, limits.max_num_batched_tokens, KV_TOKENS)


def reference_gpu(reference: Profile) -> Gpu:
    """The GPU that a fitted profile is of, by its name."""
    return find_gpu(re.sub(r"^\d+x", "", reference.name.split("/")[0]))
