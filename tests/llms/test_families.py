"""A config of every family: parameters as its makers publish them, and bytes of a token worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, facts_of, lora_modules, shapes_from_config, speed_unknown
from loratwin.llms.config import shapes_from
from loratwin.llms.families import FAMILIES
from tests.slow import SLOW

KINDS = yaml.safe_load((Path(__file__).parent / "families.yaml").read_text(encoding="utf-8"))
ALL = {name: row for rows in KINDS.values() for name, row in rows.items()}


def read(folder: Path, config: dict[str, Any], engine: str = "vllm-0.25.1") -> LlmShapes:
    (folder / "config.json").write_text(json.dumps(config))
    return shapes_from_config(folder, engine)


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_those_of_the_checkpoint_and_bytes_of_a_token_those_of_its_heads(
    name: str, tmp_path: Path
) -> None:
    """To two millionths: norms of queries and keys do not count where nothing else differs, as in Qwen3."""
    llm = read(tmp_path, ALL[name]["config"])
    assert llm.num_parameters == pytest.approx(ALL[name]["parameters"], rel=2e-6)
    assert llm.kv_bytes_per_token == ALL[name]["kv_bytes"]


def test_the_families_that_people_serve_are_among_them() -> None:
    assert len({row["config"]["model_type"] for row in ALL.values()}) >= 40
    assert {row["config"]["model_type"] for row in ALL.values()} <= set(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_hybrids_say_why_their_speed_is_not_known(kind: str, tmp_path: Path) -> None:
    reasons = {name: speed_unknown(read(tmp_path, row["config"])) for name, row in KINDS[kind].items()}
    assert any(reasons.values()) if kind == "hybrids" else not any(reasons.values())


ACTIVE = {"Mixtral 8x7B": 12.88, "Qwen3 30B": 3.35, "DeepSeek V3": 37.55, "OLMoE": 1.28, "Llama 4 Scout": 17.17}


@pytest.mark.parametrize("name", ACTIVE)
def test_a_token_meets_the_experts_that_it_is_sent_to(name: str, tmp_path: Path) -> None:
    """Billions, as the names and cards say: A3B, 37B activated, 1.3B active, 17B active."""
    assert read(tmp_path, ALL[name]["config"]).active_parameters / 1e9 == pytest.approx(ACTIVE[name], abs=0.006)


@pytest.mark.parametrize(("name", "slices"), [("Qwen3 30B", 2), ("gpt-oss 20B", 1)])
def test_experts_have_adapters_since_vllm_0_13(name: str, slices: int, tmp_path: Path) -> None:
    """gpt-oss has one A and one B for gate and up together."""
    old, new = (lora_modules(read(tmp_path, ALL[name]["config"], f"vllm-{v}"))[0][1] for v in ("0.11.0", "0.13.0"))
    assert (len(old), len(new)) == (2, 4)
    assert len(new[2]) == slices


JUNK: tuple[Any, ...] = (None, -1, "x", [None], {"a": 1}, 10**9)
JUNK += (0, 1.5, [], {}, [1], ["a"], True, float("nan"), [[1]]) if SLOW else ()


@pytest.mark.parametrize("name", ALL)
def test_a_field_that_is_something_else_is_refused_in_one_line_or_does_not_matter(name: str) -> None:
    for key in ALL[name]["config"]:
        for junk in JUNK:
            try:
                llm = shapes_from("config.json", "junk", None, {**ALL[name]["config"], key: junk}, "vllm-0.33.0")
            except InputError as error:
                assert str(error).startswith("config.json: ") and "\n" not in str(error)
            else:
                assert facts_of(llm, "vllm-0.33.0").parameters > 0


def nas(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model_type": "nemotron-nas", "hidden_size": 8192, "num_hidden_layers": len(blocks), "num_attention_heads": 64,
        "vocab_size": 128256, "max_position_embeddings": 131072, "block_configs": blocks, "tie_word_embeddings": False,
    }  # fmt: skip


def test_layers_that_a_search_made_have_their_own_sizes_or_none(tmp_path: Path) -> None:
    """Llama 3.3 Nemotron Super: 28,672 features are 5.25 x 2/3 x 8192; some layers have no attention, or fewer."""
    whole = {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25, "no_op": False}}
    half = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 2.625, "no_op": False}}
    llm = read(tmp_path, nas([whole, half, half]))
    attention, up = 8192 * (8192 + 2 * 1024) + 8192 * 8192, 3 * 8192
    layers = attention + up * 28_672 + 2 * (up * 14_336) + (2 + 1 + 1) * 8192
    assert llm.num_parameters == layers + 2 * 128_256 * 8192 + 8192
    assert llm.kv_bytes_per_token == 4096 and llm.intermediate_size == 14_336
    replaced = {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}}
    with pytest.raises(InputError, match="layers that were replaced by a linear one are not known"):
        read(tmp_path, nas([replaced]))


STEP = {
    "model_type": "step3p5", "hidden_size": 4096, "intermediate_size": 11264, "num_hidden_layers": 45,
    "num_attention_heads": 64, "num_attention_groups": 8, "head_dim": 128, "vocab_size": 128896, "sliding_window": 512,
    "layer_types": ["full_attention" if i % 4 == 0 else "sliding_attention" for i in range(48)],
    "moe_num_experts": 288, "moe_top_k": 8, "moe_intermediate_size": 1280, "share_expert_dim": 1280,
    "moe_layers_enum": ",".join(map(str, range(3, 45))), "use_head_wise_attn_gate": True,
    "attention_other_setting": {"num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128},
}  # fmt: skip
LING = {
    "model_type": "bailing_moe_v2", "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 20,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 157184, "num_experts": 256,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 512, "first_k_dense_replace": 1,
}  # fmt: skip
EXAONE = {
    "model_type": "exaone_moe", "hidden_size": 6144, "intermediate_size": 18432, "num_hidden_layers": 48,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 153600, "num_experts": 128,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "moe_intermediate_size": 2048, "first_k_dense_replace": 1,
    "sliding_window": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "billions", "active"),
    [(STEP, 196, 11), (LING, 16.26, 1.4), (EXAONE, 236, 23)],
    ids=["Step 3.5 Flash", "Ling mini 2.0", "K-EXAONE"],
)
def test_mixtures_whose_cards_round_their_parameters(
    config: dict[str, Any], billions: float, active: float, tmp_path: Path
) -> None:
    llm = read(tmp_path, {**config, "tie_word_embeddings": False, "max_position_embeddings": 32768})
    assert llm.num_parameters / 1e9 == pytest.approx(billions, rel=6e-3)
    assert llm.active_parameters / 1e9 == pytest.approx(active, rel=0.1)


def test_latent_attention_is_kept_a_second_time(tmp_path: Path) -> None:
    """DeepSeek V2 Lite: 27 layers of 16 heads x (128 + 128) x 512 numbers of 16 bits, shared by the GPUs."""
    llm = read(tmp_path, ALL["DeepSeek V2 Lite"]["config"])
    assert llm.weight_bytes_on_gpu(1) == 2 * llm.num_parameters + 27 * 2 * 16 * 256 * 512


V4 = {
    "model_type": "deepseek_v4", "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 512,
    "num_key_value_heads": 1, "qk_rope_head_dim": 64, "q_lora_rank": 64, "o_lora_rank": 32, "o_groups": 2,
    "index_n_heads": 2, "index_head_dim": 128, "index_topk": 512, "sliding_window": 128, "n_routed_experts": 4,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "hc_mult": 4, "vocab_size": 1000,
    "compress_ratios": [0, 4, 128], "max_position_embeddings": 4096,
}  # fmt: skip


def test_compressed_entries_are_shared_by_tokens(tmp_path: Path) -> None:
    """584 bytes for each 4 or 128 tokens, and 132 of the indexer for each 4; beside a window of 128 tokens."""
    facts = facts_of(read(tmp_path, V4), "vllm-0.33.0")
    assert facts.speed_unknown == "compressed attention, sparse attention"
    assert [(kind.bytes_per_token, kind.bytes_per_request) for kind in facts.kinds] == [
        (0, 128 * 584), (584 // 4 + 132 // 4, 128 * 584), (584 // 128, 128 * 584)
    ]  # fmt: skip
    windows, fours = 3 * 128 * 584, 1024 * (584 + 132)
    assert facts.kv_bytes_per_request == windows + fours + 32 * 584


def test_delta_attention_keeps_a_matrix_for_each_head_and_the_last_tokens(tmp_path: Path) -> None:
    """Kimi Linear: 4 heads of 16 x 16 in float32, and 3 tokens of q, k and v in 16 bits."""
    linear = {"kda_layers": [1], "full_attn_layers": [2], "num_heads": 4, "head_dim": 16, "short_conv_kernel_size": 4}
    llm = read(tmp_path, {
        "model_type": "kimi_linear", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
        "linear_attn_config": linear, "vocab_size": 100, "max_position_embeddings": 512,
    })  # fmt: skip
    assert llm.state_bytes_on_gpu(1) == 4 * 16 * 16 * 4 + 3 * 3 * 64 * 2
    assert llm.kv_bytes_per_token == 2 * (32 + 8)
