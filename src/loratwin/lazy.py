"""Names of a package that are imported when they are asked for, so that its face costs nothing to those who pass by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Parameters
    ----------
    package
        Its `__name__`.
    homes
        Module inside the package -> names that it defines, as `simulate` or `simulate as simulate_run`.
    """
    home_of = {shown: (module, name) for module, names in homes.items() for name, shown in map(_renamed, names)}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, defined = home_of[name]
        return getattr(import_module(f"{package}.{module}"), defined)

    return get, lambda: sorted(home_of)


def _renamed(name: str) -> tuple[str, str]:
    """What a module calls it, and what the package does."""
    defined, _, shown = name.partition(" as ")
    return defined, shown or defined
