"""What requests have in common: prompts that begin alike, conversations whose next turn repeats the last.

The texts of a workload form a tree: each goes on where its parent ends, and a request follows one path of it, from
the first token of its prompt as far as the path goes or the request (its output included). What is beyond is its own,
like nothing else. Two requests have so many tokens in common as their paths have, and no more.

- A shared beginning of 800 tokens is one text without parent, `end_tokens` 800; all who have it follow it.
- A turn of a conversation is a text that ends with its answer (`end_tokens`: its prompt and output), whose parent is
  the turn before. A turn follows its own text, the last one that of the turn before it: nobody repeats its answer.

Whether a server can use what is common is its own affair: vLLM shares nothing between adapters (engine.md 1.9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.records.read_only import F8, I4, ReadOnlyArrays

ALONE = -1
"""Of a request: it follows no text, or waits for nobody; of a text: it has no parent."""


@dataclass(frozen=True, eq=False)
class Sharing(ReadOnlyArrays):
    """The texts of requests, and who waits for whom; the first three columns have shape (num_requests,).

    Parameters
    ----------
    text
        The text whose path the request follows; -1: its tokens are its own.
    follows
        The request whose answer it waits for, each at most one's; -1: it comes at its own time.
    think_s
        Seconds from that answer to its arrival; its `arrival_s` in a workload is as if answers took no time.
    parent
        Shape (num_texts,): the text that it goes on from, of a smaller index; -1: it begins with a prompt.
    end_tokens
        Shape (num_texts,): tokens from the begin of the prompt to its end; more than its parent's.
    own
        Shape (num_texts,): said in one conversation only, and not again in a copy of it.
    """

    text: I4
    follows: I4
    think_s: F8
    parent: I4
    end_tokens: I4
    own: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.text)

    @property
    def waits(self) -> bool:
        """Whether some requests wait for the answers of others."""
        return bool((self.follows >= 0).any())

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is in it."""
        return self.text, self.follows, self.think_s, self.parent, self.end_tokens, self.own

    def without_waiting(self) -> Sharing:
        """The same texts; every request comes at its own time."""
        nobody = np.full(len(self), ALONE, np.int32)
        return replace(self, follows=nobody, think_s=np.zeros(len(self)))

    def check(self) -> None:
        """Refuse what no workload draws, as a damaged file may hold it.

        Raises
        ------
        InputError
            Columns of other lengths, a text or a request that is not there, or one that comes before its parent.
        """
        requests, texts = ({len(values) for values in part} for part in (self.arrays()[:3], self.arrays()[3:]))
        if len(requests) > 1 or len(texts) > 1:
            raise InputError("sharing: columns differ in length")
        _check_rows("text", self.text, len(self.parent))
        _check_rows("follows", self.follows, len(self))
        _check_rows("parent", self.parent, np.arange(len(self.parent)))
        if (self.end_tokens < 1).any() or not (self.think_s >= 0).all():
            raise InputError("sharing: an end_tokens below 1, or a think_s below 0")

    def take(self, rows: NDArray[np.integer]) -> Sharing:
        """That of some requests in this order; of one taken again its conversation is another one.

        One whose predecessor is not taken comes at its own time.
        """
        copy = _occurrence(rows)
        num_copies = int(copy.max(initial=0)) + 1
        place = np.full(num_copies * len(self), ALONE, np.int32)
        place[copy * len(self) + rows] = np.arange(len(rows), dtype=np.int32)
        before, text = self.follows[rows], self.text[rows]
        num = len(self.parent)
        again = np.append(self.own, False)[text]  # -1, no text, is the extra last place
        return Sharing(
            text=(text + np.where(again, copy * num, 0)).astype(np.int32),
            follows=np.where(before >= 0, place[copy * len(self) + before], ALONE).astype(np.int32),
            think_s=self.think_s[rows],
            parent=np.concatenate([self._parents(i) for i in range(num_copies)]),
            end_tokens=np.tile(self.end_tokens, num_copies),
            own=np.tile(self.own, num_copies),
        )

    def _parents(self, copy: int) -> I4:
        """Of the texts of one copy: its own, or those that all copies have."""
        is_own = np.append(self.own, False)[self.parent]
        return (self.parent + np.where(is_own, copy * len(self.parent), 0)).astype(np.int32)


def _check_rows(name: str, rows: I4, num: int | NDArray[np.int64]) -> None:
    if ((rows < ALONE) | (rows >= num)).any():
        raise InputError(f"sharing: {name} names what is not there")


def _occurrence(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """How often each row was there before, shape (num_rows,)."""
    if not len(rows) or np.all(np.diff(rows) > 0):
        return np.zeros(len(rows), np.int64)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    copy = np.empty(len(rows), np.int64)
    copy[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return copy
