"""What requests have in common: prompts that begin alike, conversations whose next turn repeats the last.

The texts of a workload form a tree: each goes on where its parent ends, and a request follows one path of it, from
the first token of its prompt as far as the path goes or the request (its output included). What is beyond is its own,
like nothing else. Two requests have so many tokens in common as their paths have, and no more.

- A shared beginning of 800 tokens is one text without parent, `end_tokens` 800; all who have it follow it.
- A turn of a conversation is a text that ends with its answer (`end_tokens`: its prompt and output), whose parent is
  the turn before. A turn follows its own text, the last one that of the turn before it: nobody repeats its answer.
- Hashes of blocks (Mooncake's `hash_ids`) are the tree that `shared_blocks` makes of them.

Whether a server can use what is common is its own affair: vLLM shares nothing between adapters (engine.md 1.9).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.workload.read_only import F8, I4, ReadOnlyArrays

ALONE = -1
"""Of a request: it follows no text, or waits for nobody; of a text: it has no parent."""


@dataclass(frozen=True, eq=False)
class Sharing(ReadOnlyArrays):
    """The texts of a workload, and who waits for whom; the first three columns have shape (num_requests,)."""

    text: I4
    """The text whose path the request follows; -1: its tokens are its own."""
    follows: I4
    """The request whose answer it waits for, each at most one's; -1: it comes at its own time."""
    think_s: F8
    """Seconds from that answer to its arrival; its `arrival_s` in the workload is as if answers took no time."""
    parent: I4
    """Shape (num_texts,): the text that it goes on from, of a smaller index; -1: it begins with a prompt."""
    end_tokens: I4
    """Shape (num_texts,): tokens from the begin of the prompt to its end; more than its parent's."""
    own: NDArray[np.bool_]
    """Shape (num_texts,): said in one conversation only, and not again in a copy of it."""

    def __len__(self) -> int:
        return len(self.text)

    @property
    def waits(self) -> bool:
        """Whether some requests wait for the answers of others."""
        return bool((self.follows >= 0).any())

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is in it."""
        return self.text, self.follows, self.think_s, self.parent, self.end_tokens, self.own

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
        own = np.append(self.own, False)[self.parent]
        return (self.parent + np.where(own, copy * len(self.parent), 0)).astype(np.int32)


def _occurrence(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """How often each row was there before, shape (num_rows,)."""
    if not len(rows) or np.all(np.diff(rows) > 0):
        return np.zeros(len(rows), np.int64)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    copy = np.empty(len(rows), np.int64)
    copy[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return copy


class Texts:
    """The tree of a workload's texts while it grows."""

    def __init__(self) -> None:
        self._parent: list[I4] = []
        self._end: list[I4] = []
        self._own: list[NDArray[np.bool_]] = []
        self._common: dict[tuple[object, ...], int] = {}
        self.num = 0

    def add(self, parent: I4, end_tokens: I4, own: bool) -> I4:
        """Further texts; their indices, shape (num,)."""
        first, self.num = self.num, self.num + len(parent)
        self._parent.append(parent.astype(np.int32))
        self._end.append(end_tokens.astype(np.int32))
        self._own.append(np.full(len(parent), own))
        return np.arange(first, self.num, dtype=np.int32)

    def common(self, key: tuple[object, ...], parent: int, end_tokens: int) -> int:
        """The text of this key, which is there once."""
        if key not in self._common:
            added = self.add(np.array([parent], np.int32), np.array([end_tokens], np.int32), own=False)
            self._common[key] = int(added[0])
        return self._common[key]

    def sharing(self, text: I4, follows: I4, think_s: F8) -> Sharing | None:
        """The whole, or None where nothing is shared."""
        if not self.num:
            return None
        return Sharing(
            text=text.astype(np.int32),
            follows=follows.astype(np.int32),
            think_s=think_s.astype(np.float64),
            parent=np.concatenate(self._parent),
            end_tokens=np.concatenate(self._end),
            own=np.concatenate(self._own),
        )


def shared_blocks(blocks: Iterable[Sequence[int]], prompt_tokens: I4, block_tokens: int, texts: Texts) -> I4:
    """Texts of prompts that are given as hashes of blocks: the same hash stands for the same tokens.

    What one request alone has is left out: it is that request's own.

    Parameters
    ----------
    blocks
        Of each request the hashes of its prompt's blocks, in order (`hash_ids` of Mooncake, 512 tokens each); the last
        block is as long as the prompt leaves it.
    prompt_tokens
        Shape (num_requests,).
    texts
        Takes what is made.

    Returns
    -------
    I4
        The text of each request, shape (num_requests,).
    """
    tree = _BlockTree()
    leaf = [
        tree.enter(hashes, tokens, block_tokens) for hashes, tokens in zip(blocks, prompt_tokens.tolist(), strict=True)
    ]
    index = tree.texts(texts)
    return np.array([index[at] if at >= 0 else ALONE for at in leaf], dtype=np.int32)


class _BlockTree:
    """The paths of hashes that requests have, as a tree; a node is one hash behind those before it."""

    def __init__(self) -> None:
        self._node: dict[tuple[int, int], int] = {}
        self._parent: list[int] = []
        self._end: list[int] = []
        self._times: list[int] = []

    def enter(self, hashes: Sequence[int], prompt_tokens: int, block_tokens: int) -> int:
        """Follow a request's hashes; its last node, -1: it has none."""
        at = ALONE
        for number, each in enumerate(hashes, 1):
            at = self._child(at, each)
            self._times[at] += 1
            self._end[at] = min(self._end[at] or number * block_tokens, prompt_tokens)
        return at

    def _child(self, at: int, each: int) -> int:
        if (at, each) not in self._node:
            self._node[at, each] = len(self._parent)
            self._parent.append(at)
            self._end.append(0)
            self._times.append(0)
        return self._node[at, each]

    def texts(self, texts: Texts) -> list[int]:
        """The text that holds each node's last token; nodes without a fork between them are one text.

        A node of one request alone has that of the last node that others have, too; -1: there is none.
        """
        parent, times = self._parent, self._times
        inner = {up for node, up in enumerate(parent) if up >= 0 and times[up] == times[node]}
        index: list[int] = []
        for node, up in enumerate(parent):  # a parent comes before its children
            above = index[up] if up >= 0 else ALONE
            if times[node] > 1 and node not in inner:
                added = texts.add(np.array([above], np.int32), np.array([self._end[node]], np.int32), own=False)
                above = int(added[0])
            index.append(above)
        return index
