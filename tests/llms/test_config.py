"""Any `config.json`: what it is read as, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError
from loratwin.llms import find_llm, shapes_from_config

CONFIG_JSON = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 1024,
}  # fmt: skip


def test_any_config_json_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG_JSON))
    llm = find_llm(str(folder))
    assert llm == shapes_from_config(folder / "config.json")
    assert (llm.name, llm.num_layers, llm.head_dim, llm.kv_size, llm.tied_embeddings) == ("tiny", 2, 32, 64, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "xlstm"}, "model_type = 'xlstm', but it must be one of llama"),
        ({"hidden_size": None}, "hidden_size = None, but it must be a whole number above 0"),
        ({"vocab_size": -1}, "vocab_size = -1"),
        ({"model_type": ["llama"]}, "model_type = ['llama'], but it must be one of llama"),
        ({"model_type": "mistral", "sliding_window": "512"}, "sliding_window = '512', but it must be a whole number"),
        ({"layer_types": ["full_attention", "moon_attention"]}, "layers 'moon_attention' are not known"),
        ({"layer_types": ["full_attention"]}, "layer_types = ['full_attention'], but there are 2 layers"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3, but it must divide num_attention_heads = 4"),
        ({"num_key_value_heads": 8}, "num_key_value_heads = 8, but it must divide num_attention_heads = 4"),
        ({"num_key_value_heads": "2"}, "num_key_value_heads = '2', but it must be a whole number above 0"),
        ({"head_dim": 0}, "head_dim = 0, but it must be a whole number above 0"),
        ({"num_attention_heads": 3}, "num_attention_heads = 3, but it must divide hidden_size = 128"),
        (
            {"quantization_config": {"quant_method": "vptq"}},
            "quantization method 'vptq' is not known",
        ),
        ({"quantization_config": "fp8"}, "quantization_config = 'fp8', but it must be an object"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 5}},
            "weights of 5 bits in groups of 128 are",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": "4"}}, "its factor must be a number above 0"),
    ],
)
def test_a_config_that_the_twin_does_not_understand_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG_JSON, **change}))
    with pytest.raises(InputError) as caught:
        shapes_from_config(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_what_the_file_leaves_out_is_what_transformers_takes(kind: str, tmp_path: Path) -> None:
    """Gemma's files do not say that the head is the embedding."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG_JSON, "model_type": kind}))
    assert shapes_from_config(tmp_path).tied_embeddings == (kind == "gemma")


def test_quantized_weights_have_shapes_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG_JSON, "quantization_config": {"quant_method": "awq"}}))
    llm = shapes_from_config(tmp_path)
    assert (llm.hidden_size, llm.quantization, llm.is_dense) == (128, "AWQ, 4 bits", False)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="cannot be read as the config.json"):
        shapes_from_config(tmp_path)
