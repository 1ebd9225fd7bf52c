"""Servers that a shell text starts: `vllm serve`, `python -m ...`, `docker run IMAGE ...`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loratwin.engines.registry import ENGINES
from loratwin.errors import InputError

_ENDS = re.compile(r"[;&|<>]+")
_IMAGE = re.compile(r"\S*(?P<engine>vllm|sglang)[^:\s]*(:(?P<tag>[^\s@]+))?(@\S+)?")
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)?)(?:[^.\d].*)?")
_VARIABLE = re.compile(r"\$\((\w+)\)|\$\{(\w+)(?::?-([^}]*))?\}|\$([A-Za-z_]\w*)")


class Started(NamedTuple):
    """A server that something starts: its engine, its arguments, and version and GPU where they are told."""

    name: str
    engine: str
    words: tuple[str, ...]
    version: str = ""
    gpu: str = ""


def started_by(
    text: str, name: str = "", variables: Mapping[str, str] | None = None, version: str = ""
) -> list[Started]:
    """All servers that a shell text starts, variables of the text itself put in.

    Raises
    ------
    InputError
        A quotation does not end.
    """
    told = dict(variables or {})
    commands = _commands(text)
    for command in commands:
        told.update(_assignments(command, told))
    found = (started(command, name, told, version) for command in commands)
    return [one for one in found if one is not None]


def started(
    words: Sequence[str], name: str = "", variables: Mapping[str, str] | None = None, version: str = ""
) -> Started | None:
    """The server that a command's words start; None: none."""
    words = [expanded(word, variables or {}) for word in words]
    for i, word in enumerate(words):
        for engine in ENGINES.values():
            program, num = engine.program, len(engine.program)
            if program and num > 1 and [word.rpartition("/")[2], *words[i + 1 : i + num]] == list(program):
                return Started(name, engine.name, tuple(words[i + num :]), version or _docker(words[:i])[1])
            if word == engine.module or (engine.name == "vllm" and word == "vllm.entrypoints.api_server"):
                return Started(name, engine.name, tuple(words[i + 1 :]), version or _docker(words[:i])[1])
    at, tag = _docker(words)
    return None if at is None else Started(name, "vllm", tuple(words[at + 1 :]), tag)


def _docker(words: Sequence[str]) -> tuple[int | None, str]:
    """Where the image of `docker run IMAGE ARGUMENTS` stands, and the version that it tells."""
    if "run" not in words:
        return None, ""
    for i in range(words.index("run") + 1, len(words)):
        image = _IMAGE.fullmatch(words[i])
        if image and not words[i].startswith("-") and "=" not in words[i] and ("/" in words[i] or image["tag"]):
            if words[i - 1] in ("-v", "--volume", "--name", "-e", "--env", "--mount", "--network"):
                continue
            return i, version_of_image(words[i])
    return None, ""


def version_of_image(image: str) -> str:
    """As "vllm-0.11.0"; "" where the tag tells none."""
    found = _IMAGE.fullmatch(image.strip())
    number = _VERSION.fullmatch(found["tag"] or "") if found else None
    return f"{found['engine']}-{number[1]}" if found and number else ""


def is_image(image: str) -> bool:
    """Whether a container of this image starts vLLM with its arguments."""
    return (found := _IMAGE.fullmatch(image.strip())) is not None and found["engine"] == "vllm"


def expanded(word: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME:-default}` and Kubernetes' `$(NAME)` replaced, where they are known."""

    def value(match: re.Match[str]) -> str:
        known = variables.get(match[1] or match[2] or match[4])
        return match[0] if known is None and match[3] is None else str(known or match[3] or "")

    return _VARIABLE.sub(value, word)


def _commands(text: str) -> list[list[str]]:
    """Words of each command of a shell text; continued lines are one."""
    plain = re.sub(r"(?m)^\s*#.*$", "", re.sub(r"\\\s*\n", " ", text))
    plain = re.sub(r"\s\d?&?>>?\s*(&\d|[^\s'\"&;|]+)", " ", plain)  # where the output goes
    commands: list[list[str]] = []
    for line in _lines(plain):
        commands.append([])
        for word in line:
            if _ENDS.fullmatch(word):
                commands.append([])
            else:
                commands[-1].append(word)
    return [command for command in commands if command]


def _lines(text: str) -> list[list[str]]:
    """Lines that are whole by themselves; else, as with a quotation over several, all as one."""
    try:
        return [_words(line) for line in text.splitlines()]
    except ValueError:
        pass
    try:
        return [_words(text)]
    except ValueError as error:
        raise InputError(f"--serve: {error} in {text.strip()[:80]!r}") from None


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


def _assignments(command: Sequence[str], told: Mapping[str, str]) -> dict[str, str]:
    """`NAME=value` before a command, or `export NAME=value`."""
    found: dict[str, str] = {}
    for word in command[1:] if command[0] == "export" else command:
        match = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", word, re.DOTALL)
        if match is None:
            break
        found[match[1]] = expanded(match[2], {**told, **found})
    return found
