"""LLMs: what they are made of, what they are called, and the bytes that follow from it."""

from loratwin.llms.layers import Attention, Cache, Layers, Linear, Slice
from loratwin.llms.lora import lora_modules, lora_tensors, slot_bytes
from loratwin.llms.names import find_llm, llm_names, names_llm, shapes_from_config
from loratwin.llms.shapes import LlmShapes, Product

__all__ = [
    "Attention",
    "Cache",
    "Layers",
    "Linear",
    "LlmShapes",
    "Product",
    "Slice",
    "find_llm",
    "llm_names",
    "lora_modules",
    "lora_tensors",
    "names_llm",
    "shapes_from_config",
    "slot_bytes",
]
