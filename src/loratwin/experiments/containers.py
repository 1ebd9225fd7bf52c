"""Servers in containers: the command that starts one, and the definition that builds its image.

Generated and compared with what the documentation of Apptainer and Docker says; none of it was run here on a real
Apptainer.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loratwin.engines.registry import find_engine
from loratwin.errors import InputError

Kind = Literal["none", "apptainer", "singularity", "docker"]
KINDS = ("none", "apptainer", "singularity", "docker")

NSIGHT = "nsight-systems-cli"


@dataclass(frozen=True)
class Container:
    """An image that servers run in.

    Parameters
    ----------
    kind
        What runs it.
    image
        A file (.sif), or a name in a registry.
    bind
        Folders that it sees, as /data or /data:/data.
    """

    kind: Kind = "none"
    image: str = ""
    bind: tuple[str, ...] = ()

    def command(self, inner: str) -> str:
        """What starts a command inside.

        Raises
        ------
        InputError
            An unknown kind, or no image.
        """
        if self.kind not in KINDS:
            raise InputError(f"container {self.kind!r}: it must be one of {', '.join(KINDS)}")
        if self.kind == "none":
            return inner
        if not self.image:
            raise InputError(f"container {self.kind}: which image? give --image FILE.sif or a name")
        return shlex.join([*self._outer(), *shlex.split(inner)])

    def _outer(self) -> list[str]:
        if self.kind == "docker":
            volumes = [word for bind in self.bind for word in ("--volume", bind if ":" in bind else f"{bind}:{bind}")]
            shared = ["--rm", "--gpus", "all", "--ipc=host", "--network=host"]
            return ["docker", "run", *shared, *volumes, "--entrypoint", "", self.image]
        binds = [word for bind in self.bind for word in ("--bind", bind)]
        return [self.kind, "exec", "--nv", *binds, self.image]


def definition(engine: str, profilers: bool = False, extra: Sequence[str] = ()) -> str:
    """An Apptainer definition file for a version of an engine, if asked for with Nsight Systems.

    Parameters
    ----------
    engine
        As vllm-0.25.1.
    extra
        Further packages of pip.

    Raises
    ------
    InputError
        No engine of that name, or no version.
    """
    name, _, version = engine.partition("-")
    known = find_engine(name)
    if not version:
        raise InputError(f"{engine!r}: which version? As {name}-0.25.1")
    image, environment = known.image
    lines = [
        "Bootstrap: docker",
        f"From: {image.format(version=version)}",
        "",
        "%post",
        *([f"    apt-get update && apt-get install -y --no-install-recommends {NSIGHT}"] if profilers else []),
        f"    python3 -m pip install --no-cache-dir {' '.join(['loratwin[bench]', *extra])}",
        "",
        "%environment",
        *(f"    export {variable}={value}" for variable, value in environment.items()),
        "",
        "%runscript",
        f'    exec {known.plain_command} "$@"',
        "",
    ]
    return "\n".join(lines)
