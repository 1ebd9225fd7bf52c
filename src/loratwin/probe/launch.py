"""What a vLLM server must be started with so that it logs its steps."""

from __future__ import annotations

import os
from pathlib import Path

from loratwin.errors import InputError

_SERVER_SIDE = Path(__file__).parent / "server"


def server_arguments(log: Path) -> tuple[list[str], dict[str, str]]:
    """The extra arguments and environment variables of a server that logs its steps into the folder `log`.

    The environment is to be laid over that of the server; its PYTHONPATH holds this process's own, put behind ours.

    Raises
    ------
    InputError
        `log` cannot be made, is no folder, or its path (or this package's) has a colon, which ends a path there.
    """
    folder = Path(log).absolute()
    if os.pathsep in str(_SERVER_SIDE):
        raise InputError(f"PYTHONPATH cannot hold {_SERVER_SIDE}: it has a {os.pathsep!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} for the step log: {error.strerror or error}") from None
    arguments = ["--scheduler-cls", "loratwin_vllm_probe.steps.Scheduler"]
    arguments += ["--worker-extension-cls", "loratwin_vllm_probe.loads.WorkerProbe"]
    paths = [str(_SERVER_SIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return arguments, {"PYTHONPATH": os.pathsep.join(paths), "LORATWIN_PROBE_LOG": str(folder)}
