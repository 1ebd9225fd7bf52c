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
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)?)(?:\.\d+)?(?:[^.\d].*)?")
_VARIABLE = re.compile(r"\$?\$(?:\((\w+)\)|\{(\w+)(\[[@*]\])?(?::?[-=]([^}]*))?\}|([A-Za-z_]\w*))")
_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*'|\\.)|(?<!\S)#[^\n]*""", re.DOTALL)
_ARRAY = re.compile(r"""([A-Za-z_]\w*\+?)=\(((?:"(?:\\.|[^"\\])*"|'[^']*'|[^()"'])*)\)""")
_DOCKER_TAKES = ("-v", "--volume", "--name", "-e", "--env", "--env-file", "--mount", "--network", "--net", "-w",
                 "--workdir", "--entrypoint", "-h", "--hostname", "-l", "--label", "-u", "--user")  # fmt: skip
"""Options of `docker run` with a value that may look like an image."""


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
    words = expanded_words(words, variables or {})
    for i, word in enumerate(words):
        if word == "vllm.entrypoints.cli.main" and words[i + 1 : i + 2] == ["serve"]:
            return Started(name, "vllm", tuple(words[i + 2 :]), version or _docker(words[:i])[1])
        for engine in ENGINES.values():
            program, num = engine.program, len(engine.program)
            if program and num > 1 and [word.rpartition("/")[2], *words[i + 1 : i + num]] == list(program):
                return Started(name, engine.name, tuple(words[i + num :]), version or _docker(words[:i])[1])
            if word == engine.module or (engine.name == "vllm" and word == "vllm.entrypoints.api_server"):
                return Started(name, engine.name, tuple(words[i + 1 :]), version or _docker(words[:i])[1])
    at, tag = _docker(words)
    if at is None or not is_image(words[at]):
        return None
    rest = words[at + 1 :]
    return Started(name, "vllm", tuple(rest[1:] if rest[:1] == ["serve"] else rest), tag)  # --entrypoint vllm


def expanded_words(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Words with variables put in."""
    return [part for word in words for part in _parts(word, variables)]


def _parts(word: str, variables: Mapping[str, str]) -> list[str]:
    """A word with its variables put in; one that is nothing but an array, or a variable of options, is several."""
    value = expanded(word, variables)
    alone = _VARIABLE.fullmatch(word)
    if alone is None or value == word or not (alone[3] or (value.startswith("-") and re.search(r"\s", value))):
        return [value]
    try:
        return [expanded(part, variables) for part in shlex.split(value)]
    except ValueError as error:
        raise InputError(f"--serve: {error} in {value[:80]!r}") from None


def _docker(words: Sequence[str]) -> tuple[int | None, str]:
    """Where the image of `docker run IMAGE ARGUMENTS` stands, and the version that it tells."""
    if "run" not in words:
        return None, ""
    for i in range(words.index("run") + 1, len(words)):
        image = _IMAGE.fullmatch(words[i])
        if image and words[i][0] not in "-/.~" and "=" not in words[i] and ("/" in words[i] or image["tag"]):
            if words[i - 1] in _DOCKER_TAKES:
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
    """`$NAME`, `${NAME:-default}` and Kubernetes' `$(NAME)` replaced, where they are known; `$$` of compose is `$`."""

    def value(match: re.Match[str]) -> str:
        known = variables.get(match[1] or match[2] or match[5])
        return match[0] if known is None and match[4] is None else str(known or match[4] or "")

    return _VARIABLE.sub(value, word)


def _commands(text: str) -> list[list[str]]:
    """Words of each command of a shell text; continued lines are one."""
    plain = _COMMENT.sub(lambda match: match[1] or "", text)
    plain = re.sub(r"\\[ \t\r]*\n", " ", plain)
    plain = _ARRAY.sub(lambda match: f"{match[1]}={shlex.quote(' ' + ' '.join(match[2].split()))}", plain)
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
    """`NAME=value` before a command, or `export NAME=value`; `NAME+=value` adds to what it was."""
    assigned: dict[str, str] = {}
    for word in command[1:] if command[0] in ("export", "declare", "local", "readonly") else command:
        match = re.fullmatch(r"([A-Za-z_]\w*)(\+?)=(.*)", word, re.DOTALL)
        if match is None and not (word.startswith("-") and command[0] in ("declare", "local")):
            break
        if match is not None:
            known = {**told, **assigned}
            assigned[match[1]] = (known.get(match[1], "") if match[2] else "") + expanded(match[3], known)
    return assigned
