"""Code blocks of the pages, as they are written: what language, what file, and whether a comment says not to run them.

    <!-- not run: needs a real vLLM -->     checked word by word, executed nowhere
    <!-- slow: simulates for a minute -->   executed with LORATWIN_SLOW=1 (.ci/run), else checked word by word

The comment stands right above the block. A block whose first line names a file (```yaml traffic.yaml) is that file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.markdown import ROOT

BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|slow): (?P<reason>[^\n]*) -->\n)?^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^\s*<!--\s*(?:not run|slow)\b.*$", re.MULTILINE)


class Block(NamedTuple):
    """One block of a page."""

    page: str
    line: int
    language: str
    name: str  # of the file that it is, or empty
    code: str
    mark: str  # "not run", "slow" or empty
    reason: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    return read_blocks(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))


def read_blocks(text: str, page: str) -> list[Block]:
    """All blocks of a page's text."""
    return [_block(match, text, page) for match in BLOCK.finditer(text)]


def _block(match: re.Match[str], text: str, page: str) -> Block:
    language, _, name = match["info"].partition(" ")
    line = text.count("\n", 0, match.start("info")) + 1
    return Block(page, line, language, name, match["code"], match["mark"] or "", match["reason"] or "")


def marks(text: str) -> int:
    """How many comments ask not to run a block, at whatever place."""
    return len(MARK.findall(text))


def lines(code: str) -> list[str]:
    """The commands of a shell block, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", code)
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
