"""The workload files that come with the package: listed, and copied to be edited."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from loratwin.errors import InputError, UnknownNameError
from loratwin.records import write_atomically


def example_names() -> list[str]:
    """Names of the workloads that come with the package."""
    return sorted(item.name.removesuffix(".yaml") for item in _examples().iterdir() if item.name.endswith(".yaml"))


def example_path(name: str) -> Path:
    """File of a workload that comes with the package.

    Raises
    ------
    UnknownNameError
        There is no such example.
    """
    name = name.removesuffix(".yaml")
    if name not in example_names():
        raise UnknownNameError("example", name, example_names())
    return Path(str(_examples().joinpath(f"{name}.yaml")))


def copy_example(name: str, folder: Path) -> list[Path]:
    """Copy an example, and the data files of the same name, to be edited; the files.

    Raises
    ------
    UnknownNameError
        There is no such example.
    InputError
        One of the files is there already (nothing is copied then), or the folder cannot be written.
    """
    path = example_path(name)
    sources = sorted(path.parent.glob(f"{path.stem}.*"))
    for source in sources:
        if (folder / source.name).exists():
            raise InputError(f"{folder / source.name} is there already; nothing copied")
    return [write_atomically(folder / source.name, source.read_bytes()) for source in sources]


def first_comment(path: Path) -> str:
    """What a workload file says of itself: its first comment line that is not a directive for editors."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.lstrip("# ").strip() for line in lines if line.startswith("#"))
    return next((text for text in comments if text and not text.startswith("yaml-language-server:")), "")


def examples_text() -> str:
    """A line for each example: its name, and what its file says of itself."""
    width = max(map(len, example_names()), default=0)
    return "\n".join(f"{known:{width}}  {first_comment(example_path(known))}".rstrip() for known in example_names())


def _examples() -> Any:
    return files("loratwin.examples")
