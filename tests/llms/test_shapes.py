"""Parameters, bytes and products of matrices, against what is worked out by hand."""

from __future__ import annotations

import pytest

from loratwin.errors import InputError
from loratwin.llms import Attention, Cache, Layers, Linear, LlmShapes, Slice, find_llm, lora_modules, slot_bytes
from loratwin.llms.layers import attention_linears, softmax_attention
from loratwin.llms.numbers import numbers
from loratwin.perf import load_profile
from loratwin.perf.profile import shipped_names

LLAMA = find_llm("llama-3.1-8b-instruct")

EXPERTS = (
    Linear(name="gate", inputs=64, slices=(Slice(8),), split="none", lora="none"),
    Linear(name="experts.w13", inputs=64, slices=(Slice(32), Slice(32)), experts=8, used=2, numbers="fp8"),
    Linear(name="experts.w2", inputs=32, slices=(Slice(64),), split="inputs", experts=8, used=2, numbers="fp8"),
)
STATE = Attention(kind="linear", caches=(Cache(kind="state", units=4, size=100, number_bytes=4),))
WINDOW = softmax_attention(4, 2, 16, kind="sliding", window=32)
MIXED = LlmShapes(
    name="mixed", hidden_size=64, intermediate_size=32, num_layers=6, num_heads=4, num_kv_heads=2, head_dim=16,
    vocab_size=100, max_model_len=1000, lora_on_vocabulary=False, tied_embeddings=True, vision_parameters=7000,
    layers=(
        Layers(count=1, attention=softmax_attention(4, 2, 16), linears=(*attention_linears(64, 4, 2, 16), *EXPERTS),
               other_parameters=128),
        Layers(count=2, attention=WINDOW, linears=attention_linears(64, 4, 2, 16)),
        Layers(count=3, attention=STATE),
    ),
)  # fmt: skip


def test_a_dense_llm_of_16_bits_is_told_by_its_sizes() -> None:
    """Llama 3.1 8B: 32 layers of 218,112,000; 8,030,261,248 in all; keys and values of 8 heads of 128, 16 bits."""
    assert LLAMA.is_dense and len(LLAMA.kinds) == 1
    assert LLAMA.kinds[0].num_parameters == 4096 * (4096 + 2048) + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096
    assert LLAMA.num_parameters == LLAMA.active_parameters == 8_030_261_248
    assert LLAMA.weight_bytes_on_gpu(1) == 2 * 8_030_261_248
    assert LLAMA.kv_bytes_per_token == 131_072 and LLAMA.state_bytes_on_gpu(1) == 0


@pytest.mark.parametrize("name", shipped_names())
def test_profiles_that_shipped_before_there_were_others_are_as_they_were(name: str) -> None:
    assert "layers" not in load_profile(name).llm.model_dump()


def test_norms_are_on_every_gpu_and_a_head_that_two_share_is_on_both() -> None:
    whole, norms = LLAMA.num_parameters, (32 * 2 + 1) * 4096
    assert LLAMA.weight_bytes_on_gpu(4) == 2 * ((whole - norms) // 4 + norms)
    repeated = 32 * 4096 * 2 * 128  # of 16 GPUs, each has one key and one value head: 8 heads would be half a head each
    assert LLAMA.weight_bytes_on_gpu(16) == 2 * ((whole - norms) // 16 + norms + repeated // 2)
    assert LLAMA.kv_bytes_on_gpu(16) == 131_072 // 8


ATTENTION = 64 * (64 + 32 + 32) + 64 * 64  # parameters of the projections in MIXED
EXPERT = 64 * 64 + 32 * 64


def test_experts_windows_and_states_count_as_what_they_are() -> None:
    outside = 100 * 64 + 64
    assert MIXED.num_parameters == 3 * ATTENTION + 64 * 8 + 8 * EXPERT + 128 + outside + 7000
    assert MIXED.active_parameters == 3 * ATTENTION + 64 * 8 + 2 * EXPERT + 128 + outside
    scales = 8 * 2 * 4  # float32, one for each matrix of an expert
    bytes_16 = 3 * ATTENTION + 64 * 8 + 128 + outside + 7000
    assert MIXED.weight_bytes_on_gpu(1) == 2 * bytes_16 + 8 * EXPERT + scales
    assert MIXED.kv_bytes_per_token == 2 * (2 * 16) * 2, "of one layer: the others stop growing"
    assert (MIXED.state_bytes_on_gpu(1), MIXED.state_bytes_on_gpu(2)) == (4800, 2400)


def test_products_are_those_of_one_gpu_and_say_how_many_experts_there_are() -> None:
    products = {each.name: each for each in MIXED.products(2)}
    assert products["experts.w13"] == ("experts.w13", 32, 64, "fp8", 1, 8, 2)
    assert products["experts.w2"] == ("experts.w2", 64, 16, "fp8", 1, 8, 2)
    assert products["gate"][1:3] == (8, 64), "not shared"
    assert products["lm_head"][1:3] == (50, 64)
    assert [each.times for each in MIXED.products() if each.name == "qkv_proj"] == [1, 2]


def test_every_expert_has_adapters_of_its_own_and_the_router_has_none() -> None:
    assert lora_modules(MIXED)[0] == (
        1, [[(64, 64), (64, 32), (64, 32)], [(64, 64)], [(512, 256), (512, 256)], [(256, 512)]]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target_modules", "numbers"),
    [
        (("q_proj", "v_proj"), 3 * (64 * 3 + 64 + 32 + 32)),  # of one of the three, all have buffers
        (("qkv_proj", "o_proj"), 3 * (64 * 3 + 64 + 32 + 32 + 64 + 64)),
        (("experts",), 8 * (2 * (64 + 32) + 32 + 64)),
        (("down_proj",), 0),
    ],
)
def test_modules_that_a_server_leaves_out_take_nothing(target_modules: tuple[str, ...], numbers: int) -> None:
    assert slot_bytes(MIXED, 4, 0, target_modules=target_modules) == 2 * 4 * numbers


def test_a_mixed_llm_survives_its_file() -> None:
    assert LlmShapes.model_validate(MIXED.model_dump(mode="json")) == MIXED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bfloat16", 2 * 256 * 512),
        ("fp8", 256 * 512 + 4),
        ("fp8-channel", 256 * 512 + 4 * 512),
        ("fp8-block", 256 * 512 + 4 * 2 * 4),
        ("int4-g128", 256 * 512 // 2 + 2 * 512 * 2),
        ("int4-g128-z", 256 * 512 // 2 + 2 * 512 * 2 + 2 * 512 // 2),
        ("bnb-4bit", 256 * 512 // 2 + 256 * 512 // 64 * 4),
        ("nvfp4", 256 * 512 // 2 + 256 // 16 * 512),
        ("mxfp4", 256 * 512 // 2 + 256 // 32 * 512),
    ],
)
def test_bytes_of_256_inputs_and_512_outputs(name: str, expected: int) -> None:
    assert numbers(name).num_bytes(256, 512) == expected


def test_a_type_of_numbers_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="unknown type of numbers 'int5-g64'.*int4-g128"):
        numbers("int5-g64")
