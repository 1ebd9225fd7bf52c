"""What a command is to simulate: a workload, its adapters' folders, a profile and a server's line, which must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loratwin.engines.server_line import ServerLine
from loratwin.errors import InputError, LoratwinError, SeveralErrors
from loratwin.perf import Profile
from loratwin.simulate.lines import line_beside
from loratwin.workload import WorkloadSpec, load_spec, load_specs, ranks_in
from loratwin.workload.adapter_checks import check_folder
from loratwin.workload.adapter_folder import own_name, stand_ins


class CheckedInputs(NamedTuple):
    """What a command is to simulate with a profile, each part checked against the others."""

    workload: WorkloadSpec
    line: ServerLine | None
    remarks: tuple[str, ...]
    """What could not be compared, or differs and can be lived with."""


def checked_inputs(
    workload: str | Path,
    profile: Profile,
    serve: str | None = None,
    lora_folder: str | Path | None = None,
    max_lora_rank: int | None = None,
) -> CheckedInputs:
    """The workload and the line that `simulate` and `plan` are told of.

    Parameters
    ----------
    workload, lora_folder, max_lora_rank
        As of `checked_workload`.
    profile
        Of the line's server.
    serve
        A server's line, or the file that holds it; None: there is none.

    Raises
    ------
    InputError
        As `checked_workload` and `line_beside`.
    """
    spec, of_adapters = checked_workload(workload, profile, lora_folder, max_lora_rank)
    line, of_line = (None, ()) if serve is None else line_beside(serve, profile)
    return CheckedInputs(spec, line, (*of_line, *of_adapters))


def checked_workload(
    given: str | Path, profile: Profile, lora_folder: str | Path | None = None, max_lora_rank: int | None = None
) -> tuple[WorkloadSpec, tuple[str, ...]]:
    """A workload, and what is to be said of its adapters' folders (`adapters` of its groups, or one given beside it).

    Parameters
    ----------
    given
        As of `load_spec`.
    profile
        Whose LLM the adapters must be of.
    lora_folder
        Adapters (PEFT) that tell the ranks of the workload's: of equal names, else in their natural order; None: the
        workload says all.
    max_lora_rank
        Of the slots; None: as the adapters need it.

    Raises
    ------
    InputError
        As `load_spec`; the folder has fewer adapters, or some that the server would not take (`check_folder`).
    """
    return with_adapters(load_spec(given), profile, lora_folder, max_lora_rank)


def checked_workloads(
    given: Sequence[str | Path],
    profile: Profile,
    lora_folder: str | Path | None = None,
    max_lora_rank: int | None = None,
) -> tuple[dict[str, WorkloadSpec], tuple[str, ...]]:
    """Several workloads, or folders of them, by name; each as `checked_workload` has it.

    Raises
    ------
    InputError
        As `load_specs`.
    SeveralErrors
        What is wrong with the adapters of each.
    """
    specs, remarks, errors = dict[str, WorkloadSpec](), dict[str, None](), list[LoratwinError]()
    for name, spec in load_specs(given).items():
        try:
            specs[name], said = with_adapters(spec, profile, lora_folder, max_lora_rank)
            remarks |= dict.fromkeys(said)
        except LoratwinError as error:
            errors.append(InputError(f"{name}: {error}"))
    if errors:
        raise SeveralErrors(errors)
    return specs, tuple(remarks)


def with_adapters(
    spec: WorkloadSpec, profile: Profile, lora_folder: str | Path | None = None, max_lora_rank: int | None = None
) -> tuple[WorkloadSpec, tuple[str, ...]]:
    """A workload with the ranks that a folder tells, its adapters checked; see `checked_workload`."""
    folders: dict[Path, set[str]] = {}
    for group in spec.groups:
        if group.adapters is not None:
            folders.setdefault(group.adapters, set()).update(map(own_name, group.adapter_names()))
    remarks: list[str] = []
    if lora_folder is not None:
        spec, taken = with_ranks(spec, Path(lora_folder))
        folders[Path(lora_folder)] = set(taken.values())
        remarks += _standing(taken, lora_folder)
    for folder, names in folders.items():
        remarks += check_folder(folder, profile.llm, max_lora_rank, names)
    return spec, tuple(remarks)


def with_ranks(spec: WorkloadSpec, folder: Path) -> tuple[WorkloadSpec, dict[str, str]]:
    """The workload with the ranks of a folder's adapters, and which of these each of its adapters has.

    Raises
    ------
    InputError
        There is no such folder, or it has fewer adapters.
    """
    there = ranks_in(folder)
    wanted = [name for group in spec.groups for name in group.adapter_names()]
    taken = stand_ins(wanted, list(there))
    if taken is None:
        missing = next(name for name in wanted if name not in there)
        raise InputError(
            f"the workload has {len(wanted)} adapters and {folder} {len(there)} (it lacks {missing!r}, ...)"
        )
    of = dict(zip(wanted, taken, strict=True))
    groups = tuple(
        group.model_copy(update={"ranks": tuple(there[of[name]] for name in group.adapter_names())})
        for group in spec.groups
    )
    return spec.model_copy(update={"groups": groups}), of


def _standing(taken: Mapping[str, str], folder: str | Path) -> list[str]:
    pairs = [(name, folder_name) for name, folder_name in taken.items() if own_name(name) != folder_name]
    if not pairs:
        return []
    (name, folder_name), num = pairs[0], len(pairs)
    return [f"{num} adapters of the workload stand for others in {folder}: {name} is {folder_name}, ..."]
