"""Names of the options that an engine's server takes: what is none of them is a slip, found before anything starts.

tables/vllm_options.txt lists those of vLLM 0.8.5 to 0.33.0 (`engine/arg_utils.py`, `entrypoints/openai/cli_args.py`),
all versions together: an option of another version is for the server to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from loratwin.errors import InputError
from loratwin.refusals import did_you_mean


def check_options(engine: str, names: Iterable[str]) -> None:
    """Refuse options that no version of the engine has; of SGLang none is known, and all pass.

    Parameters
    ----------
    names
        Options without the dashes before them.

    Raises
    ------
    InputError
        There is none of that name.
    """
    known = _vllm_options() if engine == "vllm" else frozenset()
    for name in names:
        plain = name.lstrip("-").replace("_", "-").split(".")[0]
        if known and plain.removeprefix("no-") not in known and plain not in known:
            raise InputError(
                f"{engine} has no option --{plain}{did_you_mean(plain, sorted(known))}".split("; valid:")[0]
            )


@lru_cache(maxsize=1)
def _vllm_options() -> frozenset[str]:
    text = files("loratwin.engines.tables").joinpath("vllm_options.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
