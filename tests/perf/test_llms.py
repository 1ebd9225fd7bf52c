"""What an LLM is called, and sizes that none has."""

from __future__ import annotations

import pytest

from loratwin.perf import LlmShapes, find_llm
from loratwin.perf.llms import names_llm

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
