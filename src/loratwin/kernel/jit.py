"""The compiler switch of the kernel: one decorator, and a cache that a changed file makes stale.

numba's own cache notices only changes in the file of the outermost function, so the cache folder is keyed by a hash of
every file of this package.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

_njit: Any = numba.njit  # numba's stubs lack half of its options
_config: Any = numba.config


def _cache_home() -> Path:
    if "NUMBA_CACHE_DIR" in os.environ:
        return Path(os.environ["NUMBA_CACHE_DIR"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))


def cache_folder() -> Path:
    """Where the compiled kernel of exactly these sources, this numba and this Python is kept."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return _cache_home() / "loratwin" / f"kernel-{digest.hexdigest()[:16]}"


def _usable(folder: Path) -> bool:
    """Whether the cache can be kept there; without one the kernel is compiled in every process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


_FOLDER = cache_folder()
_CACHED = _usable(_FOLDER)


def jit(function: F) -> F:
    """Compile a part of the kernel: always inlined into `entry`, never called from Python.

    The state is some forty arrays; passed as arguments they would be copied at every call, inlined they cost nothing.
    Reference counting is off (`_nrt`): the kernel allocates nothing. Never `fastmath`, which would break equality with
    the reference.
    """
    compiled: F = _njit(
        error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
    )(function)
    return compiled


def source(function: F) -> F:
    """The Python function behind a compiled one: of a formula without branches, to compute with arrays."""
    plain: F = getattr(function, "py_func", function)
    return plain


def entry(function: F) -> F:
    """Compile and cache a function that Python calls."""
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(_FOLDER)
    try:
        compiled: F = _njit(cache=_CACHED, error_model="numpy", no_cfunc_wrapper=True, _nrt=False)(function)
    finally:
        _config.CACHE_DIR = before
    return compiled
