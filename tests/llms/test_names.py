"""What an LLM is called, and sizes that none has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, find_llm, names_llm, shapes_from_config

LLAMA = find_llm("llama-3.1-8b-instruct")
TINY = LLAMA.model_copy(update={"name": "tiny", "repository": None, "num_layers": 2})


@pytest.mark.parametrize(
    ("name", "llm", "same"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", LLAMA, False),
        ("/their/disk/Qwen2.5-7B-Instruct/", LLAMA, False),
        ("LLAMA-3.2-1B-Instruct", LLAMA, False),
        ("prod", LLAMA, False),  # a name to serve by, perhaps: it is for the user to know
        ("meta-llama/Llama-3.1-8B-Instruct", LLAMA, True),
        ("nobody/Meta-LLAMA-3.1-8b-instruct-AWQ", LLAMA, True),
        ("deepseek-r1-distill-llama-8b", LLAMA, True),  # trained further: of the same sizes
        ("/their/disk/checkpoint-500", LLAMA, None),
        ("./checkpoint-500", LLAMA, None),
        ("", LLAMA, None),
        ("llama-3.1-8b-instruct", TINY, False),
        ("models/Tiny", TINY, True),
        ("prod", TINY, None),
        ("llama-3.1-8b-instruct", LLAMA.model_copy(update={"name": "checkpoint-500", "repository": None}), True),
    ],
)
def test_a_name_is_of_an_llm_or_not_or_it_is_unknown(name: str, llm: LlmShapes, same: bool | None) -> None:
    assert names_llm(name, llm) is same


CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256,
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "most"),
    [("num_hidden_layers", 10_000), *((key, 10**8) for key in CONFIG if key[-4:] in ("size", "_dim"))],
)
def test_sizes_that_no_llm_has_are_refused_before_they_are_computed_with(key: str, most: int, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**CONFIG, key: most}))
    shapes_from_config(file)
    file.write_text(json.dumps({**CONFIG, key: most + 1}))
    with pytest.raises(InputError) as refused:
        shapes_from_config(file)
    assert str(refused.value) == f"{file}: {key} = {most + 1}, but no LLM has more than {most:,}"


@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "max_position_embeddings"])
def test_no_other_number_is_without_end(key: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, key: 10**30}))
    with pytest.raises(InputError, match=f"{key} = 10+, but no LLM has more than 100,000,000"):
        shapes_from_config(tmp_path)
