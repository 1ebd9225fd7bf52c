"""What of a server's command line and environment is kept: how it computes, not where it is, and no secret."""

from __future__ import annotations

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.as_started import own_options, own_variables
from loratwin.engines.registry import find_engine

VLLM = find_engine("vllm")


def test_options_that_say_how_it_computes_are_kept() -> None:
    line = (
        "tiny --served-model-name a b --host 0.0.0.0 --port=8000 --dtype=bfloat16 --enforce-eager --max-loras 4 "
        "--enable-lora --distributed-executor-backend uni --load-format dummy --api-key hidden -tp 2 "
        "--scheduler-cls loratwin_vllm_probe.steps.Scheduler --no-enable-log-requests "
        "--compilation-config '{\"mode\": 0}'"
    )
    assert own_options(ServerArguments(VLLM, line)) == (
        "--dtype=bfloat16",
        "--enforce-eager",
        "--distributed-executor-backend uni",
        "--compilation-config '{\"mode\": 0}'",
    )


def test_variables_that_say_how_it_computes_are_kept() -> None:
    environment = {
        "PATH": "/bin",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_API_KEY": "hidden",
        "HF_TOKEN": "hidden",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_CACHE_ROOT": "/home/me",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MAX_NUM_TOKENS_OF_IT": "64",
        "OMP_NUM_THREADS": "2",
    }
    assert own_variables(environment, VLLM.variables) == (
        "OMP_NUM_THREADS=2",
        "VLLM_CPU_KVCACHE_SPACE=1",
        "VLLM_MAX_NUM_TOKENS_OF_IT=64",
    )
