"""Words of one token each, found by asking the server: where it takes no token ids, as no chat does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from loratwin.bench.shared.requests import PATHS, Api
from loratwin.bench.worker.prompts import Words
from loratwin.errors import InputError
from loratwin.http import Connection, NoAnswerError

_WORDS = """
the of and to in is it you that he was for on are with as his they be at one have this from or had by but not what all
were we when your can said there use an each which she do how their if will up other about out many then them these so
some her would make like him into time has look two more go see no way could people
"""
CANDIDATES = tuple(f" {word}" for word in _WORDS.split())
"""Frequent English words: one token each in most tokenizers, which is checked."""

_TIMEOUT_S = 60.0


def prompts_of_words(url: str, model: str, headers: Mapping[str, str], seed: int, longest: int) -> Words:
    """Prompts of an exact length for this server's tokenizer and chat template.

    Raises
    ------
    InputError
        The server does not answer, does not count, or none of our words is one token.
    """
    with Connection(url, headers, _TIMEOUT_S) as connection:
        words, overhead = single_tokens(lambda text: _count_prompt(connection, model, text))
    if not words:
        raise InputError("chat prompts of exact length: no word we know is one token for this LLM; use completions")
    return Words(seed, words, overhead, longest)


def texts_of_words(url: str, model: str, headers: Mapping[str, str], seed: int, longest: int) -> Words:
    """Prompts for completions of a server that takes no token ids: of the length asked for, if it counts them.

    Where it does not, or no word of ours is one token, all of our words are taken for that.
    """
    words, overhead = CANDIDATES, 0
    with suppress(InputError), Connection(url, headers, _TIMEOUT_S) as connection:
        single, added = single_tokens(lambda text: _count_prompt(connection, model, text, "completions"))
        if single:
            words, overhead = single, added
    return Words(seed, words, overhead, longest)


def single_tokens(count: Callable[[str], int]) -> tuple[tuple[str, ...], int]:
    """Words that add one token each to a prompt, and the tokens of a prompt without any. `count` counts a text."""
    overhead = 2 * count(_anchor(1)) - count(_anchor(2))
    words = tuple(_singles(list(CANDIDATES), count, overhead))
    return words, overhead


def _anchor(times: int) -> str:
    return CANDIDATES[0] * times


def _singles(words: list[str], count: Callable[[str], int], overhead: int) -> list[str]:
    """Halve the list until what remains counts as one token each."""
    if count("".join(words)) == overhead + len(words):
        return words
    if len(words) == 1:
        return []
    middle = len(words) // 2
    return _singles(words[:middle], count, overhead) + _singles(words[middle:], count, overhead)


def _count_prompt(connection: Connection, model: str, text: str, api: Api = "chat") -> int:
    prompt = {"messages": [{"role": "user", "content": text}]} if api == "chat" else {"prompt": text}
    what = "a chat" if api == "chat" else "a completion"
    try:
        answer = connection.request(PATHS[api], {"model": model, **prompt, "max_tokens": 1})
    except NoAnswerError as error:
        raise InputError(f"{connection.url}: no usable answer to {what}: {error.reason}") from None
    if not answer.ok:
        said = " ".join(answer.text[:200].split())
        raise InputError(f"{connection.url}: HTTP {answer.status} for {what}: {said}")
    try:
        return int(answer.json()["usage"]["prompt_tokens"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{connection.url}: the answer to {what} does not count its prompt's tokens") from None
