"""Words of one token each, found by asking the server: a chat takes no token ids, and its template adds tokens."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from loratwin.bench.worker.prompts import Words
from loratwin.errors import InputError

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

    def count(text: str) -> int:
        return _count_prompt(url, model, headers, text)

    words, overhead = single_tokens(count)
    if not words:
        raise InputError("chat prompts of exact length: no word we know is one token for this LLM; use completions")
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


def _count_prompt(url: str, model: str, headers: Mapping[str, str], text: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    direct = urllib.request.build_opener(  # without a proxy, as all other requests of a benchmark
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    try:
        with direct.open(request, timeout=_TIMEOUT_S) as answer:
            return int(json.load(answer)["usage"]["prompt_tokens"])
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: HTTP {error.code} for a chat: {error.read(200).decode('utf-8', 'replace')}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{url}: no usable answer to a chat: {error}") from None
