"""The longest context, by the rules of vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from loratwin.llms import find_llm
from loratwin.llms.context import Context, context_of
from loratwin.llms.fields import Fields

OLD, NEW = (0, 28, 0), (0, 33, 0)


def longest(version: tuple[int, int, int] = OLD, **config: Any) -> Context:
    return context_of(Fields("config.json", config), version)


def test_yarn_multiplies_what_was_trained_up_to_0_28() -> None:
    """As Qwen2.5's card says to write it."""
    rope = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert longest(max_position_embeddings=32768, rope_scaling=rope) == (131_072, "YaRN: 32768 x 4")
    assert longest(NEW, max_position_embeddings=32768, rope_scaling=rope).tokens == 32_768
    deepseek = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}
    lengths = [longest(v, max_position_embeddings=163_840, rope_scaling=deepseek).tokens for v in (OLD, NEW)]
    assert lengths == [163_840, 163_840]


def test_with_longrope_it_is_what_was_trained() -> None:
    """Phi-3.5 mini: 131,072 can be asked for, 4,096 is what a server takes."""
    config: dict[str, Any] = {"max_position_embeddings": 131_072, "original_max_position_embeddings": 4096}
    assert longest(**config, rope_scaling={"type": "longrope"}).tokens == 4096
    assert longest(**config, rope_scaling={"type": "su"}).tokens == 4096
    assert find_llm("microsoft/Phi-3.5-mini-instruct").max_model_len == 4096


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        ({"type": "linear", "factor": 4.0}, 16_384),
        ({"rope_type": "dynamic", "factor": 2.0}, 8192),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 4096),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, 4096),
        ({"rope_type": "default", "rope_theta": 1e6}, 4096),
        (None, 4096),
    ],
)
def test_other_scalings_multiply_it_or_do_not(rope: dict[str, Any] | None, tokens: int) -> None:
    assert longest(max_position_embeddings=4096, rope_scaling=rope).tokens == tokens
    if rope:
        assert longest(max_position_embeddings=4096, rope_parameters=rope).tokens == tokens


def test_layers_may_have_rotary_positions_of_their_own() -> None:
    rope = {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_type": "default"}}
    assert longest(max_position_embeddings=4096, rope_parameters=rope).tokens == 32_768
    assert longest(max_position_embeddings=4096, rope_parameters=rope, model_type="gemma3_text").tokens == 4096


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_positions": 1024}, (1024, "n_positions")),
        ({"seq_length": 8192, "max_position_embeddings": 4096}, (4096, "max_position_embeddings")),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, (131_072, "model_max_length")),
        ({}, (2048, "no length is given: vLLM takes 2048")),
    ],
)
def test_it_has_other_names_too(config: dict[str, Any], expected: tuple[int, str]) -> None:
    assert longest(**config) == expected
