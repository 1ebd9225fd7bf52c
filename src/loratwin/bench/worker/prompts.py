"""Prompts: random token ids by default, so that no tokenizer is needed and no prefix is seen twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from loratwin.errors import DataError, InputError
from loratwin.workload.streams import stream

FIRST_ID, LAST_ID = 100, 999
"""Token ids with three digits: every LLM has them, and a prompt of n tokens is a slice of 4 n - 1 bytes of a pool."""

_PLACES = 1 << 18
"""Where a prompt can begin: after so many requests, the first beginning is sent again."""


def _place(row: int) -> int:
    """Another one for each row, of those before the window (negative) too; odd steps visit all places."""
    return row * 40_503 % _PLACES


class NothingRepeated:
    """Prompts that repeat no answer."""

    def repeats_answer(self, row: int) -> bool:
        """Whether a later prompt repeats the answer to this row, so that its token ids are wanted."""
        return False

    def answered(self, row: int, token_ids: Sequence[int]) -> None:
        """What the answer was."""


class RandomIds(NothingRepeated):
    """Prompts of random token ids, exactly as long as asked for; by row, so that a run can be repeated.

    Parameters
    ----------
    longest
        Tokens of the longest prompt.
    """

    def __init__(self, seed: int, longest: int) -> None:
        rng = stream(seed, "bench", "token ids")
        ids = rng.integers(FIRST_ID, LAST_ID + 1, _PLACES + longest)
        self._pool = ",".join(map(str, ids)).encode()

    def value(self, row: int, num_tokens: int) -> bytes:
        """A slice of the pool that starts at another place for each row."""
        return b"[%b]" % self.piece(row, num_tokens)

    def room(self, num_tokens: int) -> int:
        """All tokens are ours."""
        return num_tokens

    def piece(self, row: int, num_tokens: int) -> bytes:
        """A part of a prompt, to be joined with others; at least one token."""
        start = _place(row) * 4
        return self._pool[start : start + 4 * num_tokens - 1]

    def said(self, token_ids: Sequence[int]) -> bytes:
        """An answer as such a part."""
        return ",".join(map(str, token_ids)).encode()

    def joined(self, pieces: Sequence[bytes]) -> bytes:
        """The JSON value of parts one behind the other."""
        return b"[%b]" % b",".join(pieces)


class GivenTexts(NothingRepeated):
    """Prompts of given texts, one after the other and from the first again; their lengths are what they are."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [json.dumps(text).encode() for text in texts]

    def value(self, row: int, num_tokens: int) -> bytes:
        """The row's text; `num_tokens` is not kept."""
        return self._texts[row % len(self._texts)]


class Words(NothingRepeated):
    """Prompts of words that are one token each, for chats: `num_tokens` less what the chat template adds.

    Parameters
    ----------
    words
        Each with the space before it.
    overhead
        Tokens that the template adds.
    """

    def __init__(self, seed: int, words: Sequence[str], overhead: int, longest: int) -> None:
        rng = stream(seed, "bench", "words")
        self._words = [words[i] for i in rng.integers(0, len(words), _PLACES + longest)]
        self._overhead = overhead

    def value(self, row: int, num_tokens: int) -> bytes:
        """Another slice of the words for each row."""
        return self.joined([self.piece(row, self.room(num_tokens))])

    def room(self, num_tokens: int) -> int:
        """What the chat template leaves."""
        return max(num_tokens - self._overhead, 1)

    def piece(self, row: int, num_tokens: int) -> bytes:
        """A part of a prompt, to be joined with others."""
        start = _place(row)
        return "".join(self._words[start : start + num_tokens]).encode()

    def said(self, token_ids: Sequence[int]) -> bytes:
        """A chat repeats no answer token by token; conversations are refused before they begin.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("conversations cannot be sent as chats: use --api completions")

    def joined(self, pieces: Sequence[bytes]) -> bytes:
        """The JSON value of parts one behind the other."""
        return json.dumps(b"".join(pieces).decode()).encode()


def load_texts(path: Path) -> list[str]:
    """Prompts of a file: ShareGPT's JSON, JSONL with a `prompt`, or text with one prompt a line.

    Raises
    ------
    InputError, DataError
        The file cannot be read, is damaged, or has no prompt in it.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    texts = [text for text in _read(path, content) if text.strip()]
    if not texts:
        raise InputError(f"{path}: there is no prompt in it")
    return texts


def _read(path: Path, content: str) -> list[str]:
    """All texts of the file, empty ones too."""
    if path.suffix == ".jsonl":
        return [_prompt(path, number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    if path.suffix != ".json":
        return content.splitlines()
    try:
        return _sharegpt(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not ShareGPT's form: {error!r}") from None


def _sharegpt(document: list[dict[str, list[dict[str, str]]]]) -> list[str]:
    """The first turn of each conversation that a person began."""
    first = (entry["conversations"][0] for entry in document if entry["conversations"])
    return [turn["value"] for turn in first if turn["from"] in ("human", "user") and turn["value"].strip()]


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str):
        raise DataError(f'{path}, line {number}: not JSON with a text as "prompt": {line[:80]!r}')
    return prompt
