"""Latent attention: tables of measured modules, what they say elsewhere, and steps of LLMs that have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import Profile, assume, find_gpu, gpu_names
from loratwin.perf.compare import decode_step_s
from loratwin.perf.operations.build_latent import projections_s
from loratwin.perf.operations.check_latent import latent_errors
from loratwin.perf.operations.latent import CONTEXTS, MEASURED, sizes_of
from loratwin.perf.operations.step import Steps, StepSum, base_step
from loratwin.perf.operations.tables import operations_of
from tests.slow import slow

DATA = Path(__file__).parents[3] / "shared" / "data" / "operations"
V3 = find_llm("deepseek-v3")
LITE = find_llm("deepseek-v2-lite-chat")


def one(value: float) -> np.ndarray:
    return np.array([float(value)])


def decode_module_s(gpu: str, heads: int, requests: float, context: float, number_bytes: int = 2) -> float:
    """A module of DeepSeek-V3 as the tables say: its four products, and the rest."""
    of = operations_of(find_gpu(gpu))
    rest = of.latent.decode_s(heads, one(requests), one(context), number_bytes, MEASURED, of.peaks)
    return float((projections_s(of.products["bfloat16"], one(heads), one(requests)) + rest)[0])


def prompt_module_s(gpu: str, heads: int, tokens: float) -> float:
    of = operations_of(find_gpu(gpu))
    pairs, none = one(tokens * tokens / 2), one(0)
    rest = of.latent.prompt_s(heads, one(tokens), pairs, none, MEASURED, of.peaks)
    return float((projections_s(of.products["bfloat16"], one(heads), one(tokens)) + rest)[0])


@pytest.mark.parametrize(
    ("gpu", "heads", "requests", "context", "number_bytes", "measured_ms"),
    [
        ("h100-sxm", 16, 64, 4096, 2, 0.2243), ("h100-sxm", 128, 256, 2048, 2, 0.6001),
        ("h100-sxm", 16, 128, 131072, 2, 6.4486), ("h100-sxm", 16, 128, 131072, 1, 3.4491),
        ("h100-sxm", 128, 64, 32768, 1, 1.0173), ("b200", 16, 32, 8192, 2, 0.1136),
        ("b200", 128, 1024, 4096, 2, 1.5400), ("l40s", 128, 64, 1024, 2, 1.0773),
        ("rtx-pro-6000-server", 128, 256, 8192, 2, 14.1309),
    ],
)  # fmt: skip
def test_modules_that_decode_are_as_measured(
    gpu: str, heads: int, requests: int, context: int, number_bytes: int, measured_ms: float
) -> None:
    """Latencies of NVIDIA AIConfigurator, vLLM 0.24."""
    assert decode_module_s(gpu, heads, requests, context, number_bytes) * 1e3 == pytest.approx(measured_ms, rel=0.04)


@pytest.mark.parametrize(
    ("gpu", "heads", "tokens", "measured_ms"),
    [("h100-sxm", 16, 4096, 0.7485), ("h100-sxm", 128, 32768, 72.5236), ("b200", 16, 8192, 0.6275),
     ("b200", 128, 2048, 0.6784), ("l40s", 16, 4096, 1.8905), ("l40s", 128, 16384, 89.1442)],
)  # fmt: skip
def test_modules_of_prompts_are_about_as_measured(gpu: str, heads: int, tokens: int, measured_ms: float) -> None:
    assert prompt_module_s(gpu, heads, tokens) * 1e3 == pytest.approx(measured_ms, rel=0.15)


def test_more_heads_requests_and_context_take_longer_also_beyond_what_was_measured() -> None:
    times = [decode_module_s("h100-sxm", 16, *at) for at in ((8, 10), (8, 3000), (8, 6000), (100, 6000), (300, 6000))]
    assert times == sorted(times)
    assert decode_module_s("h100-sxm", 20, 8, 3000) > times[1]
    of = operations_of(find_gpu("h100-sxm"))
    long = [of.latent.decode_s(16, one(64), one(context), 2, MEASURED, of.peaks)[0] for context in (131072, 262144)]
    assert long[1] == pytest.approx(2 * long[0])
    many = [of.latent.decode_s(16, one(requests), one(512), 2, MEASURED, of.peaks)[0] for requests in (1024, 4096)]
    assert many[1] == pytest.approx(4 * many[0])


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_has_a_table_of_the_same_kernels(name: str) -> None:
    of = operations_of(find_gpu(name))
    if of.tiles_queries:
        assert of.latent.like in ("l40s", "rtx-pro-6000-server")
    reading_s = 64 * 32768 * MEASURED.entry * 2 / of.gpu.memory_bytes_per_s
    assert decode_module_s(name, 16, 64, 32768) > 0.9 * reading_s


@pytest.mark.parametrize(
    ("name", "like"),
    [("h200", "h200"), ("h100-pcie", "h100-sxm"), ("a100-80gb", "rtx-pro-6000-server"), ("l4", "l40s"),
     ("v100-32gb", "h100-sxm")],
)  # fmt: skip
def test_a_gpu_whose_modules_were_not_measured_takes_the_nearest(name: str, like: str) -> None:
    assert operations_of(find_gpu(name)).latent.like == like


def test_slower_memory_reads_slower_and_launches_as_fast() -> None:
    """H100 PCIe has 0.6 of the bandwidth."""
    fast, slow = (operations_of(find_gpu(name)) for name in ("h100-sxm", "h100-pcie"))
    short, long = (
        [each.latent.decode_s(16, one(64), one(n), 2, MEASURED, each.peaks)[0]
         for each in (fast, slow)]
        for n in (CONTEXTS[0], 65536)
    )  # fmt: skip
    assert short[0] == short[1]
    assert long[1] - short[1] == pytest.approx((long[0] - short[0]) * 3350 / 2000)


def test_sizes_follow_from_the_projections() -> None:
    assert {sizes_of(kind) for llm in (V3, LITE) for kind in llm.kinds} == {MEASURED}
    half = MEASURED._replace(entry=288, latent=256)
    of = operations_of(find_gpu("h100-sxm"))
    times = [of.latent.decode_s(16, one(64), one(65536), 2, sizes, of.peaks)[0] for sizes in (MEASURED, half)]
    assert 0.5 < times[1] / times[0] < 0.55


def test_keys_and_values_of_what_is_cached_before_a_prompt_are_made_anew() -> None:
    """`_compute_prefill_context`: the product of the up-projection, for each of those tokens."""
    of = StepSum(operations_of(find_gpu("h100-sxm")), V3, 8, 0.0)
    tokens, pairs = one(2048), one(2048 * 8192)
    alone, after = of.prompt_s(tokens, pairs)[0], of.prompt_s(tokens, pairs, one(8192))[0]
    made = of.operations.product_s("fp8", 8, one(8192), 16 * 256, 512)[0]
    assert after - alone == pytest.approx(61 * (made + 8192 * 16 * of.operations.latent.row_s / 2))
    steps = Steps(*map(one, (0, 0, 2048, 2048 * 8192, 1, 8192)))
    assert of.seconds(steps)[0] - of.seconds(steps._replace(cached=one(0)))[0] == pytest.approx(after - alone)


def test_what_the_modules_hold_is_not_counted_twice() -> None:
    """Outputs of the projections are moved within the measured module, all others beside it."""
    h100 = operations_of(find_gpu("h100-sxm"))
    layers = tuple(
        kind.model_copy(update={"attention": kind.attention.model_copy(update={"kind": "none"})}) for kind in V3.kinds
    )
    moved = [StepSum(h100, llm, 8, 0.0)._activation_s for llm in (V3, V3.model_copy(update={"layers": layers}))]
    projections = (1536 + 576) + 16 * 192 + 16 * 256 + 7168
    assert moved[1] - moved[0] == pytest.approx(2 * 61 * 1.5 * projections / 3350e9)


def test_blocks_of_fp8_take_what_the_module_with_them_took() -> None:
    """H100, 128 heads, one request: 152 us with FP8 in blocks, 210 us with 16 bits; the table of blocks alone says 246
    us for its products, as the host launches them."""
    of = StepSum(operations_of(find_gpu("h100-sxm")), V3, 1, 0.0)
    inside = ("fused_qkv_a_proj", "q_b_proj", "kv_b_proj", "o_proj")
    products = {product.name: product for product in V3.products(1) if product.name in inside}
    assert {product.numbers for product in products.values()} == {"fp8-block"}
    seconds = sum(of._product_s(product, one(1))[0] for product in products.values())
    seconds += of.operations.latent.decode_s(128, one(1), one(32), 2, MEASURED, of.operations.peaks)[0]
    assert seconds == pytest.approx(152e-6, rel=0.08)


@pytest.mark.parametrize(
    ("gpu", "llm", "gpus"), [("h200", V3, 8), ("b200", V3, 8), ("h100-sxm", LITE, 1), ("l40s", LITE, 1)]
)
def test_the_kernels_coefficients_say_the_sum(gpu: str, llm: LlmShapes, gpus: int) -> None:
    found = base_step(StepSum(operations_of(find_gpu(gpu)), llm, gpus, 1e-5), 256, 8192, 400_000)
    assert 0 < found.error < 0.05
    assert found.worst < 0.3
    assert found.prefill_step_s > 27 * 25e-6
    few = Steps(*map(one, (0, 0, 1, 1, 1)))
    none = few._replace(prompt=one(0), decoding=one(1), pairs=one(0))
    assert found.seconds(few)[0] - found.seconds(none)[0] == pytest.approx(found.prefill_step_s, rel=1e-3)


def test_a_profile_is_assumed_marked_and_wide() -> None:
    """Eight H200: a step of DeepSeek-V3 reads 6 GB on each for one request, and nearly all experts for 64."""
    profile = assume(find_gpu("h200"), V3, "vllm-0.24.0", 8)
    single, many = (decode_step_s(profile, batch, 0) for batch in (1, 64))
    assert 6e-3 < single < 20e-3
    assert 1.5 * single < many < 5 * single
    assert "latent attention as DeepSeek-V3's was measured on h200 with vLLM 0.24" in profile.card.notes
    assert profile.uncertainty is not None
    assert profile.uncertainty.standard_errors["step_time.weights_s"] > 61 * 2e-5
    older = assume(find_gpu("h200"), V3, "vllm-0.9.2", 8)
    assert relative_error(older) == pytest.approx(2 * relative_error(profile))


def relative_error(profile: Profile) -> float:
    """Of what reading the KV cache takes."""
    assert profile.uncertainty is not None
    return profile.uncertainty.standard_errors["step_time.context_s"] / profile.step_time.context_s


def test_on_a_gpu_whose_modules_were_not_measured_errors_are_twice_as_wide() -> None:
    wide, known = (assume(find_gpu(gpu), LITE, "vllm-0.24.0") for gpu in ("a100-80gb", "l40s"))
    assert relative_error(wide) == pytest.approx(2 * relative_error(known))
    assert "latent attention as DeepSeek-V3's was measured on rtx-pro-6000-server with vLLM 0.24" in wide.card.notes


@slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the measured operations (shared/data/operations)")
def test_what_was_left_out_is_predicted() -> None:
    """What docs/findings/profiles.md says of the errors by regime."""
    errors = latent_errors(DATA)
    between = [each for each in errors if each.what == "decode, between"]
    assert len(between) == 8 * 6
    assert max(each.mean for each in between) < 0.065
    other = [each.mean for each in errors if each.what.startswith("decode, other weights")]
    assert np.mean(other) < 0.12
    prompts = [each.mean for each in errors if each.what == "prompts, between"]
    assert np.mean(prompts) < 0.09
