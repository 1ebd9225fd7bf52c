"""LLMs: what they are made of, what they are called, and the bytes that follow from it."""

from loratwin.llms.cache import CacheSettings, CacheSize, cache_size
from loratwin.llms.config import shapes_from_config
from loratwin.llms.facts import LlmFacts, facts_of, llm_facts
from loratwin.llms.layers import Attention, Cache, Layers, Linear, Slice
from loratwin.llms.lora import lora_modules, lora_tensors, slot_bytes
from loratwin.llms.names import find_llm, llm_names, names_llm, quantized_name
from loratwin.llms.shapes import LlmShapes, Product, speed_unknown
from loratwin.llms.tensor_parallel import check_dealt

__all__ = [
    "Attention",
    "Cache",
    "CacheSettings",
    "CacheSize",
    "Layers",
    "Linear",
    "LlmFacts",
    "LlmShapes",
    "Product",
    "Slice",
    "cache_size",
    "check_dealt",
    "facts_of",
    "find_llm",
    "llm_facts",
    "llm_names",
    "lora_modules",
    "lora_tensors",
    "names_llm",
    "quantized_name",
    "shapes_from_config",
    "slot_bytes",
    "speed_unknown",
]
