"""What a kernel is for, by its name.

Names are those of vLLM, SGLang, FlashAttention, FlashInfer, xFormers, CUTLASS, cuBLAS, NCCL and PyTorch, as they appear
in profiles; the first rule that fits decides, the more particular ones come first.
"""

from __future__ import annotations

import re
from functools import cache

ATTENTION, MATMUL, SHRINK, EXPAND = "attention", "matmul", "LoRA shrink", "LoRA expand"
SAMPLING, COMMUNICATION, OTHER = "sampling", "communication", "other"

CLASSES = (ATTENTION, MATMUL, SHRINK, EXPAND, SAMPLING, COMMUNICATION, OTHER)
"""In the order of tables and figures."""

_RULES = (
    (COMMUNICATION, r"nccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device|multimem|nvshmem"),
    (SHRINK, r"lora_shrink|[sb]gmv_shrink|lora_a_kernel"),
    (EXPAND, r"lora_expand|[sb]gmv_expand|lora_b_kernel"),
    (OTHER, r"reshape_and_cache|cache_kernel|copy_blocks|swap_blocks"),  # moves keys and values, computes nothing
    (
        ATTENTION,
        r"flash_?fwd|flash_?attn|flash::|flashattn|fmha|attention|unified_attn|pagedkv|batch_?decode|batch_?prefill"
        r"|flash_?mla|\bmla_|mha_|attn_fwd",
    ),
    (
        MATMUL,
        r"gemm|gemv|matmul|nvjet|wgmma|splitk|cublas|cutlass|marlin|machete|fused_moe|grouped_mm|xmma|\bdot_kernel"
        r"|aten::(add)?mm$|aten::(b|badd)b?mm$|aten::linear|mkldnn_linear|onednn_mm|_linear_pointwise",
    ),
    (
        SAMPLING,
        r"sampl|softmax|top_?[kp]|argmax|argmin|multinomial|radix|sort|exponential|penalt|logit|cumsum|scan|gumbel"
        r"|log_probs|logprob",
    ),
)

_COMPILED = tuple((kind, re.compile(rule, re.IGNORECASE)) for kind, rule in _RULES)


@cache
def kernel_class(name: str) -> str:
    """One of `CLASSES`."""
    return next((kind for kind, rule in _COMPILED if rule.search(name)), OTHER)
