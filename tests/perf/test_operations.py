"""Times of single operations: tables that ship, what they say between the knots, and a step as their sum."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loratwin.engines.versions import default_limits
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.llms import Layers, LlmShapes, find_llm, shapes_from_config
from loratwin.llms.families.states import _state
from loratwin.perf import assume, find_gpu, gpu_names
from loratwin.perf.assume import _NO_STEP
from loratwin.perf.compare import decode_step_s
from loratwin.perf.operations.build import SOURCES, build
from loratwin.perf.operations.products import K, M, N, product_bound_s
from loratwin.perf.operations.step import StepSum, base_step
from loratwin.perf.operations.tables import operations_of
from tests.slow import slow

DATA = Path(__file__).parents[3] / "shared" / "data" / "operations"
TABLES = Path(__file__).parents[2] / "src" / "loratwin" / "perf" / "operations" / "tables"
LLAMA = find_llm("llama-3.1-8b-instruct")
H100, L40S = (operations_of(find_gpu(name)) for name in ("h100-sxm", "l40s"))


def one(tokens: float) -> np.ndarray:
    return np.array([float(tokens)])


@pytest.mark.parametrize("name", gpu_names())
@pytest.mark.parametrize("tokens", [1, 64, 8192])
def test_no_product_is_faster_than_the_roofline(name: str, tokens: int) -> None:
    gpu = find_gpu(name)
    for n, k in ((6144, 4096), (4096, 14336), (128256, 4096)):
        bound = product_bound_s(gpu.memory_bytes_per_s, gpu.flops, "bfloat16", tokens, n, k)
        seconds = operations_of(gpu).product_s("bfloat16", 16, one(tokens), n, k)
        assert bound < seconds < 5 * bound + 20e-6


def test_what_was_measured_is_known_as_such() -> None:
    assert {name for name in gpu_names() if operations_of(find_gpu(name)).measured} == set(SOURCES)


@pytest.mark.parametrize(
    ("name", "like"),
    [("a100-40gb", "a100-80gb"), ("h100-pcie", "h100-sxm"), ("h100-64gb", "h100-sxm"), ("l4", "l40s"),
     ("rtx-4090", "rtx-pro-6000-server"), ("rtx-6000-ada", "l40s")],
)  # fmt: skip
def test_a_gpu_without_tables_takes_those_of_one_that_is_like_it(name: str, like: str) -> None:
    assert operations_of(find_gpu(name)).like == like


def test_fewer_bits_are_read_faster_and_computed_as_fast_where_they_have_no_table() -> None:
    few, many = one(8), one(8192)
    whole, quarter = (
        H100.product_s(name, bits, few, 6144, 4096) for name, bits in (("bfloat16", 16), ("int4-g128", 4.1))
    )
    assert 0.2 * whole < quarter < 0.6 * whole
    whole, quarter = (
        H100.product_s(name, bits, many, 6144, 4096) for name, bits in (("bfloat16", 16), ("int4-g128", 4.1))
    )
    assert quarter == pytest.approx(whole, rel=0.1)
    assert H100.knows("fp8") and H100.product_s("fp8", 8, many, 6144, 4096) < 0.8 * whole
    assert not L40S.knows("nvfp4")


def test_attention_reads_the_cache_and_takes_a_least_time() -> None:
    attention = H100.decode_attention(128, 4)
    rate = find_gpu("h100-sxm").memory_bytes_per_s
    idle, busy = attention.time_s(8.0, 8 * 512, rate), attention.time_s(8 * 256.0, 1e10, rate)
    assert 5e-6 < idle < 20e-6
    assert busy == pytest.approx(1e10 / (attention.memory_share * rate), rel=0.05)


def test_slow_products_reach_a_larger_share_of_their_peak() -> None:
    """L4 has a third of the operations of L40S, whose launches and exponentials take as long."""
    slow = operations_of(find_gpu("l4"))
    assert L40S.context_attention(128).share < 0.6 < slow.context_attention(128).share < 0.9
    reached = [
        2 * 4096 * 6144 * 4096 / (each.product_s("bfloat16", 16, one(4096), 6144, 4096)[0] * each.gpu.flops)
        for each in (L40S, slow)
    ]
    assert reached[0] < reached[1] < 0.95


def test_all_reduces_of_pcie_are_slower() -> None:
    large = one(4_194_304)
    fast, slow = (each.all_reduce_s(4, large) for each in (H100, L40S))
    assert slow == pytest.approx(3.3e-3, rel=0.1)  # as measured
    assert slow > 20 * fast
    assert H100.all_reduce_s(1, large) == 0


def test_a_layers_share_of_two_gpus_is_smaller_but_not_half() -> None:
    tokens = one(64)
    times = [StepSum(H100, LLAMA, gpus, 1e-5).dense_s(tokens)[0] for gpus in (1, 2, 8)]
    assert 0.5 * times[0] < times[1] < 0.75 * times[0]
    assert times[2] < times[1]


@pytest.mark.parametrize(
    ("gpu", "llm", "gpus"),
    [("h100-sxm", "llama-3.1-8b-instruct", 1), ("a100-80gb", "qwen-3-14b", 1), ("l40s", "qwen-2.5-7b-instruct", 1),
     ("rtx-4090", "llama-3.1-8b-instruct", 1), ("b200", "llama-3.3-70b-instruct", 1),
     ("h100-sxm", "llama-3.3-70b-instruct", 4)],
)  # fmt: skip
def test_the_kernels_coefficients_say_the_sum(gpu: str, llm: str, gpus: int) -> None:
    """Mean 3 % at most, so that the kernel needs no table."""
    limits = default_limits("vllm-0.23.0", find_gpu(gpu).memory_gib, gpu)
    of = StepSum(operations_of(find_gpu(gpu)), find_llm(llm), gpus, 1e-5)
    found = base_step(of, limits.max_num_seqs, limits.max_num_batched_tokens, 400_000)
    assert 0 < found.error < 0.03
    assert found.worst < 0.16


MIXTURE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
    "max_position_embeddings": 40960, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}  # fmt: skip
"""Qwen3-30B-A3B."""


@pytest.fixture
def mixture(tmp_path: Path) -> LlmShapes:
    (tmp_path / "config.json").write_text(json.dumps(MIXTURE))
    return shapes_from_config(tmp_path)


def test_more_tokens_read_more_experts_until_all_are_read(mixture: LlmShapes) -> None:
    of = StepSum(H100, mixture, 1, 1e-5)
    one, few, many, most = (float(of.dense_s(np.array([float(tokens)]))[0]) for tokens in (1, 8, 128, 256))
    assert few > 2 * one and many > 2 * few
    assert most < 1.2 * many
    weights_s = mixture.num_parameters * 2 / find_gpu("h100-sxm").memory_bytes_per_s
    assert weights_s < many < 1.6 * weights_s


@pytest.mark.parametrize("gpu", ["h100-sxm", "b200", "l40s"])
def test_small_products_of_blocks_are_not_as_slow_as_the_host(gpu: str) -> None:
    """Half the bytes of 16 bits: measured alone, each took 60 us (H100) to 330 (L40S), however small."""
    plain = LLAMA.kinds[0]
    blocks = plain.model_copy(
        update={"linears": tuple(each.model_copy(update={"numbers": "fp8-block"}) for each in plain.linears)}
    )
    of = operations_of(find_gpu(gpu))
    times = [
        StepSum(of, LLAMA.model_copy(update={"layers": (kind,)}), 1, 0.0).dense_s(one(16))[0]
        for kind in (plain, blocks)
    ]
    assert 0.5 < times[1] / times[0] < 0.9


def test_linear_attention_does_not_ask_how_long_a_request_is() -> None:
    attention = _state("linear", 32, 128, 128, (8192, 1), 4, 2)
    layers = Layers(count=32, attention=attention, linears=LLAMA.kinds[0].linears)
    of = StepSum(H100, LLAMA.model_copy(update={"layers": (layers,)}), 1, 0.0)
    short, long, many = (of.decode_s(one(n), one(context))[0] for n, context in ((8, 100), (8, 1e5), (256, 100)))
    assert short == long
    assert many == pytest.approx(32 * (10.7e-6 + 363.9e-6), rel=0.1)  # as measured
    assert of.prompt_s(one(4096), one(8e6))[0] == pytest.approx(32 * (64e-6 + 200e-6), rel=0.1)
    assert operations_of(find_gpu("a100-80gb")).linear.decode_head_s > H100.linear.decode_head_s


def test_the_kernels_coefficients_say_the_sum_of_experts_too(mixture: LlmShapes) -> None:
    """Of decode steps of 1 to 256 requests: what all experts take, and the part that one token is sent to."""
    found = base_step(StepSum(H100, mixture, 1, 1e-5), 256, 8192, 400_000)
    assert found.error < 0.03
    assert found.expert_share == 8 / 128
    profile = assume(find_gpu("h100-sxm"), mixture, "vllm-0.23.0")
    assert profile.step_time.expert_s == pytest.approx(found.expert_s, rel=0.05)
    assert decode_step_s(profile, 128, 0) > 3 * decode_step_s(profile, 1, 0)
    assert profile.card.notes[0] == _NO_STEP
    tokens = np.array([2.0, 64.0])
    cost = profile.step_time.resolve(0, 8)
    kernel = [step_time_s(cost, StepFeatures(0, n, 0, 0, 0, 0, 0, 0, 0, 0)) for n in (2, 64)]
    assert np.array(kernel) - cost.prefill_step_s == pytest.approx(profile.step_time.dense_s(tokens))


@pytest.mark.parametrize(
    ("gpu", "llm", "more"),
    [
        ("a100-80gb", "llama-3.1-8b-instruct", True),
        ("rtx-4090", "llama-3.1-8b-instruct", True),
        ("h100-sxm", "llama-3.1-8b-instruct", False),  # FlashAttention 3 fills tiles with heads there, too
        ("a100-80gb", "llama-2-7b", False),  # heads share no keys: a tile has one row always
    ],
)
def test_beside_a_prompt_a_decode_request_is_a_whole_tile(gpu: str, llm: str, more: bool) -> None:
    profile = assume(find_gpu(gpu), find_llm(llm), "vllm-0.19.0")
    cost = profile.step_time.resolve(0, 8)
    decoding = StepFeatures(50, 0, 50_000, 0, 0, 0, 0, 0, 0, 50)
    mixed = decoding._replace(prefill_tokens=64)
    without = cost._replace(mixed_context_s=0.0, mixed_request_s=0.0)
    assert step_time_s(cost, decoding) == step_time_s(without, decoding)
    extra = step_time_s(cost, mixed) - step_time_s(without, mixed)
    wanted = 50_000 * (64 * cost.prefill_context_s - cost.context_s) + 50 * cost.mixed_request_s if more else 0.0
    assert extra == pytest.approx(wanted, abs=1e-12)
    assert (cost.mixed_request_s > 0) == more
    assert (extra > 0) == more


@pytest.mark.parametrize(
    ("gpu", "again"),
    [
        ("a100-80gb", 3 * (200_000 - 40 * 2**20 / 512)),  # 4 heads share keys; a head's key and value have 512 bytes
        ("rtx-4090", None),  # its cache holds them
        ("h100-sxm", None),  # another kernel
    ],
)
def test_beside_a_prompt_heads_read_again_what_the_cache_does_not_hold(gpu: str, again: float | None) -> None:
    """The grid goes through all requests for one head of the queries before the next (engine.md 1.10)."""
    cost = assume(find_gpu(gpu), find_llm("llama-3.1-8b-instruct"), "vllm-0.19.0").step_time.resolve(0, 8)
    context = 100_000 if gpu == "rtx-4090" else 200_000
    mixed = StepFeatures(50, 64, context, 0, 0, 0, 0, 0, 0, 50)
    once = cost._replace(reread_context_s=0.0)
    assert step_time_s(cost, mixed._replace(prefill_tokens=0)) == step_time_s(once, mixed._replace(prefill_tokens=0))
    alone = cost._replace(mixed_context_s=0.0, mixed_request_s=0.0, reread_context_s=0.0)
    more = step_time_s(cost, mixed) - step_time_s(alone, mixed)
    tiles = cost.mixed_context_s * context + cost.mixed_request_s * 50
    if again is None:
        assert more == pytest.approx(tiles, abs=1e-12)
    else:
        assert more == pytest.approx(again * cost.context_s)
        assert more > tiles


def test_a_row_of_little_context_beside_a_prompt_is_a_tile_of_each_head() -> None:
    """A100, 32 layers of 32 heads: a tile of one head takes 38 ns among many (measured), less what packed rows take."""
    llm = find_llm("llama-3.1-8b-instruct")
    profile = assume(find_gpu("a100-80gb"), llm, "vllm-0.19.0")
    tile_s = operations_of(find_gpu("a100-80gb")).context_attention(128).tile_s
    assert 36e-9 < tile_s < 40e-9
    step = profile.step_time
    rounded_up = 64 * 64 * step.prefill_context_s  # half of 128 keys, by 64 rows
    packed = step.mixed_request_s + rounded_up - 32 * 32 * tile_s
    assert -15e-9 < packed / (32 * 32) < -5e-9
    slower = operations_of(find_gpu("a10")).context_attention(128).tile_s
    assert slower > operations_of(find_gpu("l40s")).context_attention(128).tile_s


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the measured operations (shared/data/operations)")
class TestMeasured:
    """Against the files that the tables come from."""

    @slow
    def test_the_tables_are_those_that_the_command_makes(self, tmp_path: Path) -> None:
        build(DATA, tmp_path)
        for file in TABLES.iterdir():
            assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name

    @pytest.mark.parametrize("name", sorted(SOURCES))
    def test_products_are_as_measured(self, name: str) -> None:
        """Of 256 tokens or more and 2,048 features: fewer are read from the cache, or go to a kernel by chance."""
        import pandas

        rows = pandas.read_parquet(DATA / "gemm.parquet")
        rows = rows[(rows.gpu == SOURCES[name].name) & (rows.gemm_dtype == "bfloat16") & (rows.m >= 256)]
        rows = rows[(rows.n >= 2048) & (rows.k >= 2048) & (rows.m <= M[-1])].sample(400, random_state=0)
        rows = rows[rows.n.isin(N) & rows.k.isin(K)]
        table = operations_of(find_gpu(name))
        told = [float(table.product_s("bfloat16", 16, one(r.m), r.n, r.k)[0]) for r in rows.itertuples()]
        errors = np.log(np.array(told) / (rows.latency.to_numpy() * 1e-3))
        assert np.abs(errors).mean() < 0.08
        assert abs(errors.mean()) < 0.02
