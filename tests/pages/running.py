"""Blocks of a page executed in order, in a folder of their own: files written, commands and Python run.

What a page says of its reader's world stands for something smaller: the server at port 8000 is one of known timing at
another port, ten minutes of measuring are two seconds, workloads to learn from are fewer; every day an hour of traffic
is half a minute, and plans try two numbers of slots.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loratwin.workload import load_spec
from tests.bench.servers import timed_server
from tests.cli.program import loratwin
from tests.pages.blocks import Block, lines
from tests.pages.checking import check
from tests.slow import SLOW

URL = "http://127.0.0.1:8000"
SHORTER = {
    "--window 600": "--window 2",
    "window_s=600": "window_s=2",
    "--cases 48": "--cases 12",
    "time.sleep(60)": "time.sleep(2)",
    "start + 60": "start + 2",
    "measure(loratwin.draw(workload,": "measure(loratwin.draw(workload.model_copy(update={'window_s': 2.0}),",
}
EVERY_DAY = {
    "plan traffic.yaml": "plan traffic.yaml --slots 16,64 --seeds 1",
    "find_plan(workload, profile,": "find_plan(workload, profile, slots=[16, 64], seeds=[0],",
}

Serve = Callable[[ExitStack, Path], str]
"""Starts a server for the commands of a folder; its URL."""


def serve_adapters(stack: ExitStack, folder: Path) -> str:
    """A server of known timing with the adapters of every workload that the page has shown."""
    specs = [load_spec(path) for path in sorted(folder.glob("*.yaml"))]
    names = dict.fromkeys(name for spec in specs for group in spec.groups for name in group.adapter_names())
    return stack.enter_context(timed_server(folder, "llm", *names)).url


class Page:
    """The state that the blocks of a page share: a folder, which is the current one, Python's names, and a server."""

    def __init__(self, folder: Path, stack: ExitStack, serve: Serve = serve_adapters) -> None:
        self.folder, self._stack, self._serve = folder, stack, serve
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._url = ""

    def run(self, block: Block) -> None:
        """Do what the block says."""
        if block.mark == "not run" or (block.mark == "slow" and not SLOW):
            check(block)
        elif block.name:
            (self.folder / block.name).write_text(block.code if SLOW else _of_half_a_minute(block), encoding="utf-8")
        elif block.language == "bash":
            for line in lines(block.code):
                self._command(line, block.place)
        elif block.language == "python":
            exec(compile(self._here(block.code), block.place, "exec"), self._names)
        else:
            check(block)

    def _command(self, line: str, place: str) -> None:
        program, *words = shlex.split(self._here(line), comments=True)
        if program == "mkdir":
            return Path(*words).mkdir()
        assert program == "loratwin", f"{place}: only loratwin can be run here; say above the block why not: {line}"
        *words, target = words if words[-2:-1] == [">"] else [*words, ""]
        done = loratwin(*(words[:-1] if target else words), cwd=self.folder)
        assert done.returncode == 0, (place, line, done.stderr)
        assert done.stdout.strip() or "-o" in words, f"{place}: says nothing: {line}"
        if target:
            (self.folder / target).write_text(done.stdout, encoding="utf-8")

    def _here(self, text: str) -> str:
        """What a block says, in this smaller world."""
        for said, shorter in (SHORTER | ({} if SLOW else EVERY_DAY)).items():
            text = text.replace(said, shorter)
        if URL in text and not self._url:
            self._url = self._serve(self._stack, self.folder)
        return text.replace(URL, self._url)


def _of_half_a_minute(block: Block) -> str:
    """A workload of an hour, or of ten minutes, as one of half a minute."""
    if block.language != "yaml" or "window_s" in block.code:
        return block.code.replace("window_s: 600", "window_s: 30")
    return "window_s: 30\n" + block.code
