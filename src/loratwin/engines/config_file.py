"""The file of a server's `--config`: its keys are options, and what is typed on the line wins over them.

vLLM and SGLang read it alike (`FlexibleArgumentParser._pull_args_from_config`, `server_args_config_parser.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from loratwin.engines.arguments import ServerArguments
from loratwin.errors import InputError


def with_config_file(arguments: ServerArguments, folder: Path | None = None) -> ServerArguments:
    """The same arguments with those of the `--config` file before them, so that the typed ones count.

    Parameters
    ----------
    folder
        What the file's path is relative to; None: the current one.

    Raises
    ------
    InputError
        The file cannot be read, or is no mapping of options.
    """
    named = arguments.text("config")
    if named is None:
        return arguments
    path = (folder or Path()) / named
    rest = arguments.without("config")
    from_file = ServerArguments(arguments.engine, config_words(read_mapping(path), str(path)))
    if rest.text("model") and "model" in from_file:
        from_file = from_file.without("model")
    if rest.text("model") and "model" not in rest:  # without an option it stands first, or an unknown one takes it
        return ServerArguments(arguments.engine, [rest.model]).plus(from_file).plus(rest.without("model"))
    return from_file.plus(rest)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """A YAML file that is one mapping.

    Raises
    ------
    InputError
        It cannot be read, or is something else.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--config {path}: cannot be read ({reason})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"--config {path}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict):
        raise InputError(f"--config {path}: a mapping of options is expected, as max-loras: 8")
    return data


def config_words(options: Mapping[str, Any], where: str) -> list[str]:
    """Options of a YAML mapping as words of a command line.

    Raises
    ------
    InputError
        A key that is no text.
    """
    words: list[str] = []
    for key, value in options.items():
        if not isinstance(key, str):
            raise InputError(f"--config {where}: {key!r} is no option")
        words += option_words("model" if key == "model_tag" else key, value)
    return words


def option_words(key: str, value: Any) -> list[str]:
    """One option: a switch by true or false, a list as several values, a mapping as JSON."""
    name = "--" + key.strip().lstrip("-").replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    if isinstance(value, list):
        return [name, *map(_word, value)] if value else []
    return [name, _word(value)]


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
