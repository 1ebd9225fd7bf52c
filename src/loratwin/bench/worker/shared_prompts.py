"""Prompts that have in common what the workload says, token by token; a turn repeats the answer that was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.bench.worker.prompts import RandomIds, Words
from loratwin.workload import Sharing
from loratwin.workload.arrays import I4


class SharedPrompts:
    """Each text has tokens of its own, and so has what a prompt has beyond its path through them.

    Parameters
    ----------
    alone
        Makes the tokens.
    prompt_tokens
        Of the requests of the workload; rows beyond them (of a closed loop that begins again) follow the same texts.
    """

    def __init__(self, alone: RandomIds | Words, sharing: Sharing, prompt_tokens: I4) -> None:
        self._alone = alone
        self._num = len(sharing)
        self._text, self._parent = sharing.text.tolist(), sharing.parent.tolist()
        self._end, self._prompt = sharing.end_tokens.tolist(), prompt_tokens[: self._num].tolist()
        answered = sharing.follows[np.flatnonzero(sharing.follows >= 0)].tolist()
        self._asked = {self._text[row]: row for row in answered}  # the turn that a text ends with
        self._repeated = frozenset(answered)
        self._answers: dict[int, tuple[int, ...]] = {}  # by text

    def repeats_answer(self, row: int) -> bool:
        """Whether the next turn repeats the answer to this row."""
        return row in self._repeated

    def answered(self, row: int, token_ids: Sequence[int]) -> None:
        """Keep the answer until the turns behind it were sent; nothing was said: other tokens take its place."""
        if token_ids:
            self._answers[self._text[row]] = tuple(token_ids)

    def value(self, row: int, num_tokens: int) -> bytes:
        """The JSON value of a prompt; rows before the window (negative) share nothing."""
        if row < 0:
            return self._alone.value(row, num_tokens)
        room = self._alone.room(num_tokens)
        pieces: list[bytes] = []
        at = 0
        for text in self._path(self._text[row % self._num]):
            end = min(self._end[text], room)
            if end > at:
                pieces += self._of_text(text, at, end)
                at = end
        if room > at:
            pieces.append(self._alone.piece(row, room - at))
        return self._alone.joined(pieces)

    def _path(self, text: int) -> list[int]:
        """A text and those before it, the first first."""
        path = []
        while text >= 0:
            path.append(text)
            text = self._parent[text]
        return path[::-1]

    def _of_text(self, text: int, at: int, end: int) -> list[bytes]:
        """The tokens of a text from `at`, where it begins, to `end`."""
        own_row = self._num + text  # no request's
        answer = self._answers.get(text)
        if answer is None:
            return [self._alone.piece(own_row, end - at)]
        asked = self._prompt[self._asked[text]]  # the answer begins here
        pieces = [self._alone.piece(own_row, min(asked, end) - at)] if asked > at else []
        if end > asked:
            said = answer[: end - asked]
            pieces.append(self._alone.said(said))
            if len(said) < end - asked:
                pieces.append(self._alone.piece(own_row, end - asked - len(said)))
        return pieces
