"""What the learned model predicts for a measured server: the same figures as the twin, from the same columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loratwin.calibrate.published.serving import ServingRun, profile_for
from loratwin.learn.cases.case import Mix, context_mean
from loratwin.learn.models.model import LearnedModel
from loratwin.metrics import STARVED_RATIO
from loratwin.perf import Profile
from loratwin.validate.predict import Prediction, offered_tokens_per_s
from loratwin.workload import ShareGpt


def predict_learned(
    runs: Sequence[ServingRun],
    model: LearnedModel,
    progress: Callable[[int, int], None] = lambda done, of: None,
    profiles: dict[str, Profile] | None = None,
) -> list[Prediction]:
    """Predict runs in their order; the shipped profiles where none are given."""
    predictions = []
    for run in runs:
        predictions.append(_predict(run, model, (profiles or {}).get(run.model) or profile_for(run.model)))
        progress(len(predictions), len(runs))
    return predictions


def _predict(run: ServingRun, model: LearnedModel, profile: Profile) -> Prediction:
    mix = mix_of_run(run, profile.frontend.generated_share)
    seen = model.figures(mix, profile, [run.served_adapters], [run.max_loras])
    if not seen.starts[0]:
        return Prediction(run.name)
    sent = run.sent_per_s * float(seen.share[0])
    total = sent * (mix.prompt_mean + mix.output_mean)
    return Prediction(
        run.name,
        total_throughput=total,
        input_throughput=sent * mix.prompt_mean,
        output_throughput=sent * mix.output_mean,
        itl_mean_ms=float(seen.itl_ms[0]),
        tpot_mean_ms=float(seen.tpot_ms[0]),
        ttft_mean_ms=float(seen.ttft_ms[0]),
        kv_tokens=int(seen.kv_tokens[0]),
        starts=1,
        starved=int(total / offered_tokens_per_s(run) <= STARVED_RATIO),
    )


def mix_of_run(run: ServingRun, generated_share: float) -> Mix:
    """A measured workload as the learned model sees it: rates as sent, outputs as generated (see `ServingRun`)."""
    counts = np.array(run.rate_counts, dtype=float)
    ranks = np.array(run.ranks_cycle, dtype=float)
    output_mean = run.output_tokens_mean * generated_share
    return Mix(
        rate_per_s=np.array(run.rate_values) * (run.sent_per_s / run.total_rate),
        weight=counts / counts.sum(),
        rank_mean=float(ranks.mean()),
        rank_std=float(ranks.std()),
        rank_min=min(run.ranks_cycle),
        rank_max=max(run.ranks_cycle),
        max_lora_rank=run.max_lora_rank,
        prompt_mean=run.prompt_tokens_mean,
        output_mean=output_mean,
        context_mean=context_mean(ShareGpt(prompt_mean=run.prompt_tokens_mean, output_mean=output_mean)),
    )
