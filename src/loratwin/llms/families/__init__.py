"""Which reader knows which `model_type`, and what else it says beyond its sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from loratwin.llms.families import latent, others, states
from loratwin.llms.families.common import Body
from loratwin.llms.families.transformer import LLAMA, Traits, all_sliding, every, standard, when_told
from loratwin.llms.fields import Fields


class Family(NamedTuple):
    """What a `model_type` says beyond its sizes."""

    read: Callable[[Fields], Body]
    lora_on_vocabulary: bool = False  # `embedding_modules` of its class in vLLM 0.8.5
    lora_on_vocabulary_now: bool = False  # by 0.19 (engine.md 5.4)
    attention_bias: bool = False
    fused_projections: bool = False
    tied_embeddings: bool = False  # where the file does not say: transformers leaves out its defaults
    experts_in_one: bool = False  # adapters of the experts have one A and B for gate and up (`is_3d_moe_weight`)


def _standard(traits: Traits = LLAMA) -> Callable[[Fields], Body]:
    return partial(standard, traits=traits)


def _pattern(number: int, key: str = "", first_full: bool = False) -> Callable[[Fields, int], list[str]]:
    """One full layer in so many; the file's number under `key` overrides."""
    return lambda fields, count: every(fields, count, fields.size(key, default=number) if key else number, first_full)


_BIASED = Traits(attention_bias=True, output_bias=False)
_HEAD = Traits(qk_norm="head")
_COHERE = Traits(norms=1)
_GEMMA2 = Traits(norms=4, windows=lambda fields, count: every(fields, count, 2))
_PLAIN = Traits(attention_bias=True, output_bias=True, gated=False, mlp_bias=True, norms=4, norm_bias=True)

FAMILIES: dict[str, Family] = {
    # dense
    "llama": Family(_standard(), True, True),
    "mistral": Family(_standard(Traits(windows=all_sliding)), True, False),
    "ministral": Family(_standard(Traits(windows=all_sliding)), True, False),
    "ministral3": Family(_standard(Traits(windows=all_sliding)), False, False),
    "qwen2": Family(_standard(_BIASED._replace(windows=when_told)), False, False, attention_bias=True),
    "qwen3": Family(_standard(_HEAD._replace(windows=when_told)), False, True),
    "gemma": Family(_standard(), False, False, tied_embeddings=True),
    "gemma2": Family(_standard(_GEMMA2), False, False, tied_embeddings=True),
    "gemma3_text": Family(
        _standard(Traits(norms=4, qk_norm="head", windows=_pattern(6, "sliding_window_pattern"))), tied_embeddings=True
    ),
    "gemma4_text": Family(others.gemma4, tied_embeddings=True),
    "phi3": Family(_standard(Traits(whole=True, windows=all_sliding)), True, True, fused_projections=True),
    "phi": Family(_standard(_PLAIN._replace(norms=2, names=("", "fc1", "fc2"), head_bias=True))),
    "glm": Family(_standard(Traits(attention_bias=True, output_bias=False))),
    "glm4": Family(_standard(Traits(attention_bias=True, output_bias=False, norms=4))),
    "chatglm": Family(others.chatglm),
    "olmo": Family(_standard(Traits(norms=0))),
    "olmo2": Family(_standard(Traits(qk_norm="full"))),
    "olmo3": Family(_standard(Traits(qk_norm="full", windows=_pattern(4)))),
    "granite": Family(_standard(), True, True, tied_embeddings=True),
    "falcon": Family(others.falcon, tied_embeddings=True),
    "starcoder2": Family(
        _standard(_PLAIN._replace(windows=all_sliding, names=("", "c_fc", "c_proj"))), tied_embeddings=True
    ),
    "smollm3": Family(_standard(), False, False, tied_embeddings=True),
    "exaone": Family(_standard(), True, True),
    "exaone4": Family(_standard(Traits(qk_norm="head", windows=_pattern(4))), False, True),
    "cohere": Family(_standard(_COHERE), True, True, tied_embeddings=True),
    "cohere2": Family(
        _standard(_COHERE._replace(windows=_pattern(4, "sliding_window_pattern"))), True, True, tied_embeddings=True
    ),
    "nemotron": Family(_standard(Traits(gated=False, norms=4, norm_bias=True)), True, True),
    "opt": Family(others.opt, tied_embeddings=True),
    "gpt2": Family(others.gpt2, tied_embeddings=True),
    "gpt_neox": Family(others.gpt_neox),
    "stablelm": Family(_standard(Traits(norms=4, norm_bias=True))),
    "internlm2": Family(_standard()),
    "internlm3": Family(_standard()),
    "minicpm": Family(_standard(), True, True, tied_embeddings=True),
    "arcee": Family(_standard(Traits(gated=False))),
    "seed_oss": Family(_standard(_BIASED)),
    "mimo": Family(_standard(_BIASED)),
    "ernie4_5": Family(_standard(), tied_embeddings=True),
    "hunyuan_v1_dense": Family(_standard(_HEAD)),
    "apertus": Family(_standard(Traits(gated=False, qk_norm="head")), False, True),
    "solar": Family(_standard(), True, True),
    # experts
    "mixtral": Family(_standard(Traits(windows=all_sliding)), True, True),
    "qwen2_moe": Family(_standard(_BIASED)),
    "qwen3_moe": Family(_standard(_HEAD), False, True),
    "phimoe": Family(
        _standard(Traits(attention_bias=True, output_bias=True, norms=4, windows=all_sliding)), True, True
    ),
    "olmoe": Family(_standard(Traits(qk_norm="full"))),
    "granitemoe": Family(_standard(), True, True, tied_embeddings=True),
    "granitemoeshared": Family(_standard(), True, True, tied_embeddings=True),
    "glm4_moe": Family(_standard(_BIASED)),
    "ernie4_5_moe": Family(_standard(), tied_embeddings=True),
    "dots1": Family(_standard(_HEAD)),
    "gpt_oss": Family(others.gpt_oss, experts_in_one=True),
    "llama4_text": Family(others.llama4),
    "minimax_m2": Family(others.minimax_m2),
    "minimax_m3": Family(others.minimax_m3),
    "mimo_v2_flash": Family(others.mimo_v2),
    "nemotron-nas": Family(others.nemotron_nas, True, True),
    "exaone_moe": Family(_standard(_HEAD._replace(windows=_pattern(4))), False, True),
    "bailing_moe": Family(_standard(_HEAD)),
    "bailing_moe_v2": Family(_standard(_HEAD)),
    "mimo_v2": Family(others.mimo_v2),
    "step3p5": Family(others.step3),
    "step3p7": Family(others.step3),
    # latent attention
    "deepseek_v2": Family(latent.latent),
    "deepseek_v3": Family(latent.latent),
    "deepseek_v32": Family(latent.latent),
    "kimi_k2": Family(latent.latent),
    "glm4_moe_lite": Family(latent.latent),
    "glm_moe_dsa": Family(latent.latent),
    "deepseek_v4": Family(latent.deepseek_v4),
    "deepseek_ref": Family(latent.deepseek_v4),
    # states
    "qwen3_next": Family(states.qwen3_next),
    "qwen3_5_text": Family(states.qwen3_next, False, True),
    "qwen3_5_moe_text": Family(states.qwen3_next, False, True, experts_in_one=True),
    "nemotron_h": Family(states.nemotron_h, True, True),
    "granitemoehybrid": Family(states.granite_hybrid, True, True, tied_embeddings=True),
    "kimi_linear": Family(states.kimi_linear),
    # text of what also sees
    "qwen2_5_vl_text": Family(_standard(_BIASED), attention_bias=True),
    "qwen2_vl_text": Family(_standard(_BIASED), attention_bias=True),
    "qwen3_vl_text": Family(_standard(_HEAD)),
    "qwen3_vl_moe_text": Family(_standard(_HEAD), experts_in_one=True),
}
"""By `model_type`."""

SEEING = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "llava": "llama",
    "llava_next": "mistral",
    "pixtral": "mistral",
    "internvl_chat": "qwen2",
    "internvl": "qwen2",
    "kimi_k25": "kimi_k2",
    "kimi_k3": "kimi_linear",
    "kimi_vl": "deepseek_v3",
    "glm4v": "glm4",
    "glm4v_moe": "glm4_moe",
    "idefics3": "llama",
    "smolvlm": "llama",
    "aya_vision": "cohere2",
}
"""LLMs that see, and the family of their text part where it does not name it."""


def family_of(fields: Fields) -> Family:
    """The family of an LLM, or of its text part.

    Raises
    ------
    InputError
        One that is not known.
    """
    kind = fields.data.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise fields.refuse("model_type", f"it must be one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]
