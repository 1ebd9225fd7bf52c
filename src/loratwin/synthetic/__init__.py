"""LLMs and LoRA adapters with random weights, for benchmarks and tests without a download.

>>> from loratwin.synthetic import NewAdapter, make_adapters, make_llm
>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     llm = make_llm(f"{folder}/llm")
...     made = make_adapters(f"{folder}/adapters", llm, [NewAdapter("support", rank=8)])
>>> made[0].name, made[0].rank
('support', 8)
"""

from loratwin.synthetic.adapters import (
    MadeAdapter,
    NewAdapter,
    from_workload,
    lora_modules_args,
    make_adapters,
    numbered,
    read_adapters,
    wanted_adapters,
)
from loratwin.synthetic.llm import NewLlm, make_llm
from loratwin.synthetic.shapes import LINEAR_MODULES, read_llm_shapes

__all__ = [
    "LINEAR_MODULES",
    "MadeAdapter",
    "NewAdapter",
    "NewLlm",
    "from_workload",
    "lora_modules_args",
    "make_adapters",
    "make_llm",
    "numbered",
    "read_adapters",
    "read_llm_shapes",
    "wanted_adapters",
]
