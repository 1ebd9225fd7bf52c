"""The lines of a log that say why a server did not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.launch.failure import telling_lines

ARGPARSE = """usage: api_server.py [-h]
api_server.py: error: unrecognized arguments: --max-lorras 4
"""

VLLM = """(APIServer pid=8922) INFO 11-21 12:34:07 [api_utils.py:286] non-default args: {'model': 'tiny'}
(EngineCore pid=8971) ERROR 11-21 12:34:21 [core.py:1033] Traceback (most recent call last):
(EngineCore pid=8971) ERROR 11-21 12:34:21 [core.py:1033]   File "core.py", line 1024, in run_engine_core
(EngineCore pid=8971) ERROR 11-21 12:34:21 [core.py:1033] ValueError: No available memory for the cache blocks.
(EngineCore pid=8971) ValueError: No available memory for the cache blocks.
(APIServer pid=8922) Traceback (most recent call last):
(APIServer pid=8922) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}

"""

CUDA = """INFO 05-06 10:00:00 [gpu.py:1] loading
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""

RANK = """(APIServer pid=1) WARNING 11-21 12:34:07 [system_utils.py:255] See `OSError: [Errno 24] Too many files`
(Worker pid=3) ERROR 11-21 13:05:33 [multiproc_executor.py:1063] ValueError: LoRA rank 16 is greater than 8.
(EngineCore pid=2) ERROR 11-21 13:05:33 [core.py:1750] RuntimeError: It failed with 'LoRA rank 16 is greater than 8.'
ValueError: Call to add_lora method failed: Worker failed with error 'LoRA rank 16 is greater than 8.', see above
UserWarning: resource_tracker: There appear to be 1 leaked semaphore objects to clean up at shutdown
"""

PYDANTIC = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (9000) is greater than the derived max_model_len
    For further information visit https://errors.pydantic.dev
"""

LOGS = [
    (RANK, "ValueError: LoRA rank 16 is greater than 8."),
    (PYDANTIC, "Value error, User-specified max_model_len (9000) is greater than the derived max_model_len"),
    (ARGPARSE, "api_server.py: error: unrecognized arguments: --max-lorras 4"),
    (VLLM, "ValueError: No available memory for the cache blocks."),
    (CUDA, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
    ("INFO 05-06 10:00:00 [gpu.py:1] loading\n\n", "loading"),
    ("", "nothing was logged"),
    ("\n".join(f"{i}Error: {i}" for i in "ABCDE"), "CError: C | DError: D | EError: E"),
    (f"ValueError: {'x' * 9999}", f"ValueError: {'x' * 388}"),
]


@pytest.mark.parametrize(("text", "line"), LOGS)
def test_the_cause_is_told_and_not_what_follows_from_it(text: str, line: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(text)
    assert telling_lines(log) == line


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("OldError: x\n" + "fine\n" * 100_000)
    assert telling_lines(log) == "fine"
