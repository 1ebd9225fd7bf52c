"""The tree of texts (`records.sharing`) while a workload is drawn.

Hashes of blocks (Mooncake's `hash_ids`) are the tree that `shared_blocks` makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from loratwin.records.read_only import F8, I4
from loratwin.records.sharing import ALONE, Sharing

__all__ = ["ALONE", "Sharing", "Texts", "shared_blocks"]


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

    def of(self, sharing: Sharing) -> I4:
        """The texts of requests that are known already, added to the others; what each request follows."""
        parent, first = sharing.parent, self.num
        self._parent.append(np.where(parent >= 0, parent + first, ALONE).astype(np.int32))
        self._end.append(sharing.end_tokens)
        self._own.append(sharing.own)
        self.num += len(parent)
        return np.where(sharing.text >= 0, sharing.text + first, ALONE).astype(np.int32)

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
        for number, block_hash in enumerate(hashes, 1):
            at = self._child(at, block_hash)
            self._times[at] += 1
            self._end[at] = min(self._end[at] or number * block_tokens, prompt_tokens)
        return at

    def _child(self, at: int, block_hash: int) -> int:
        if (at, block_hash) not in self._node:
            self._node[at, block_hash] = len(self._parent)
            self._parent.append(at)
            self._end.append(0)
            self._times.append(0)
        return self._node[at, block_hash]

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
