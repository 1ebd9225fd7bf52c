"""Libraries that only some uses need: asked for in one way, with one line where they are not installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from loratwin.errors import InputError

_PACKAGES = {
    "sklearn": "scikit-learn",
    "interpret.glassbox": "interpret",
    "pyarrow.parquet": "pyarrow",
    "prometheus_client.parser": "prometheus-client",
}
"""Where what is installed is named otherwise than what is imported."""


def required(module: str, what: str, extra: str) -> Any:
    """A module of a library that is not always there.

    Parameters
    ----------
    what
        What needs it, to begin the sentence: "a parquet file needs pyarrow".
    extra
        Of loratwin, that installs it.

    Raises
    ------
    InputError
        It is not installed, or does not load.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = _PACKAGES.get(module, module)
        absent = isinstance(error, ModuleNotFoundError) and error.name in (module, module.split(".")[0])
        why = "" if absent else f" ({error})"
        raise InputError(f"{what} needs {package}{why}: pip install 'loratwin[{extra}]'") from None
