"""Profiles as files, and the user's own: checked, then copied to where `load_profile` finds them by name."""

from __future__ import annotations

from pathlib import Path

from loratwin.errors import InputError
from loratwin.perf.profile import Profile, dump_profile, file_name, load_profile, shipped_names, user_folder, user_names
from loratwin.records.atomic import write_atomically


def save_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile's file (YAML), whole or not at all.

    Raises
    ------
    InputError
        The folder does not exist or cannot be written.
    """
    return write_atomically(path, dump_profile(profile))


def check_profile_file(path: Path) -> None:
    """Refuse before work the name of a profile's file that does not end as one.

    Raises
    ------
    InputError
        It does not.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: the file of a profile must end in .yaml")


def profile_file(output: Path, name: str) -> Path:
    """Where a profile goes.

    Parameters
    ----------
    output
        A file (.yaml, .yml), which it is itself; or a folder.
    name
        The profile's, after which its file in the folder is called.
    """
    return output if output.suffix in (".yaml", ".yml") else output / f"{name.replace('/', '__')}.yaml"


def add_profile(path: str, replace: bool = False) -> tuple[Profile, Path]:
    """Check a profile file and keep it under its own name.

    Raises
    ------
    InputError
        The file is no profile, is damaged or newer than understood; its name is taken, or cannot be a file's; the
        folder cannot be made.
    """
    if not path.endswith((".yaml", ".yml")):
        raise InputError(f"{path}: a profile file that ends in .yaml is expected")
    profile = load_profile(path)
    target = profile_path(profile.name)
    if profile.name in shipped_names():
        raise InputError(f"{profile.name} is the name of a shipped profile; change 'name' in {path}")
    if profile.name in user_names() and not replace:
        raise InputError(f"{profile.name} is there already ({target}); replace it with --replace")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target.parent} of your profiles: {error.strerror}") from None
    return profile, save_profile(profile, target)


def profile_path(name: str) -> Path:
    """The file in the user's folder in which a profile of this name is kept.

    Raises
    ------
    InputError
        The name has characters that could lead elsewhere.
    """
    parts = name.split("/")
    if not all(part and part[0] != "." and set(part) <= _SAFE for part in parts):
        raise InputError(f"profile name {name!r}: letters, digits and . - + _ are expected, with / between parts")
    return user_folder() / file_name(name)


_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-+_")
