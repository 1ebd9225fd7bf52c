"""Names of the options that a server takes: what is none of them is a slip, found before anything starts.

tables/vllm_options.txt lists those of vLLM 0.8.5 to 0.33.0 (`engine/arg_utils.py`, `entrypoints/openai/cli_args.py`),
all versions together: an option of another version is for the server to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from loratwin.errors import InputError
from loratwin.refusals import did_you_mean

if TYPE_CHECKING:
    from loratwin.engines.engine import Engine


def check_options(engine: Engine, names: Iterable[str]) -> None:
    """Refuse options that no version of the engine has; where its options are not known, all pass.

    Parameters
    ----------
    names
        Options, with or without the dashes before them.

    Raises
    ------
    InputError
        There is none of that name.
    """
    known = engine.option_names()
    for name in names:
        plain = name.lstrip("-").replace("_", "-").split(".")[0]
        if known and not {plain, plain.removeprefix("no-")} & known:
            said = f"{engine.title} has no option --{plain}{did_you_mean(plain, sorted(known))}"
            raise InputError(said.split("; valid:")[0])


@lru_cache(maxsize=4)
def listed_options(file: str) -> frozenset[str]:
    """A table of them."""
    return frozenset(files("loratwin.engines.tables").joinpath(file).read_text(encoding="utf-8").split())
