"""A server's line beside a profile: whether they are of the same LLM and GPUs, and a profile of the line's own."""

from __future__ import annotations

from loratwin.engines.flags import DTYPES
from loratwin.engines.server_line import ServerLine, find_line
from loratwin.engines.versions import UNTOLD, engine_version
from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import Profile, find_gpu, profile_for, profile_names, served_profile
from loratwin.records import EngineConfig


def server_profile(
    name: str | None,
    line: str | None = None,
    gpu: str | None = None,
    quantization: str | None = None,
    pipeline_parallel: int = 1,
) -> tuple[Profile, tuple[str, ...]]:
    """The profile that is named, else one of a line's GPU, LLM and version; and what is to be said of that.

    Parameters
    ----------
    name
        Of a profile or its file, as of `perf.served_profile`; None: the line tells.
    line
        As of `engines.server_line.find_line`.
    gpu
        The line's GPU, where it does not say it itself.
    quantization, pipeline_parallel
        As of `perf.served_profile`.

    Raises
    ------
    InputError
        Neither a profile nor a line is given, or the line does not tell LLM and GPU; or as `served_profile`.
    """
    if name is not None and gpu is not None:
        raise InputError(f"--gpu {gpu}: --profile {name} is of a GPU already; give one of the two")
    if name is not None:
        return served_profile(name, quantization, pipeline_parallel), ()
    if line is None:
        raise InputError("no profile: --profile names one (`loratwin profiles list`), or --serve and --gpu tell of one")
    return _of_line(find_line(line), gpu)


def _of_line(line: ServerLine, gpu: str | None) -> tuple[Profile, tuple[str, ...]]:
    """One that was fitted to such a server, else one that is assumed."""
    if not (gpu or line.gpu):
        raise InputError(f"{line.where} does not say on which GPU it runs: --gpu h100-sxm does, or --profile")
    arguments = line.arguments
    if not arguments.engine.generations:
        raise InputError(f"{line.where} starts {arguments.engine.title}, whose speed cannot be assumed: --profile")
    engine = line.version or UNTOLD
    stages = arguments.whole("pipeline_parallel") or 1
    if stages > 1:
        raise InputError(
            f"{line.where} has {stages} stages of layers (--pipeline-parallel-size); no profile is of that"
        )
    quantization = arguments.text("quantization")
    llm = find_llm(f"{arguments.model}-{quantization}" if quantization else arguments.model, engine)
    profile = profile_for(find_gpu(gpu or line.gpu), llm, engine, arguments.whole("tensor_parallel") or 1)
    version = "" if line.version else f"; the line does not tell its version: taken to be {engine}"
    how = "profile {}" if profile.name in profile_names() else "no profile was measured for it; {} is assumed"
    return profile, (f"{line.where}: {how.format(profile.name)}{version}",)


def line_beside(given: str, profile: Profile) -> tuple[ServerLine, tuple[str, ...]]:
    """The server of a line or file beside a profile, and what differs that can be lived with.

    Parameters
    ----------
    given
        As of `engines.server_line.find_line`.
    profile
        Of the same LLM, on as many GPUs.

    Raises
    ------
    InputError
        There is no such line, or as `check_line`.
    """
    line = find_line(given)
    return line, check_line(line, profile)


def check_line(line: ServerLine, profile: Profile) -> tuple[str, ...]:
    """Refuse a line of another server than the profile's.

    Returns
    -------
    tuple of str
        What differs and can be lived with, or could not be compared.

    Raises
    ------
    InputError
        Another LLM, another number of GPUs that share it, or other numbers of its weights.
    """
    arguments = line.arguments
    named = arguments.model
    asked = {name: arguments.text(name) for name in ("dtype", "quantization")}
    try:
        served = find_llm(f"{named}-{asked['quantization']}" if asked["quantization"] else named, profile.engine).name
    except InputError:
        served = ""
    if served and served != profile.llm.name:
        raise InputError(f"{line.where} serves {served}, but the profile is of {profile.llm.name}: {profile.name}")
    gpus, stages = (arguments.whole(name) or 1 for name in ("tensor_parallel", "pipeline_parallel"))
    if gpus != profile.memory.tensor_parallel:
        raise InputError(
            f"{line.where} shares the LLM among {gpus} GPUs (--tensor-parallel-size), but the profile among "
            f"{profile.memory.tensor_parallel}: {profile.name}"
        )
    if stages > 1:
        raise InputError(
            f"{line.where} has {stages} stages of layers (--pipeline-parallel-size); no profile is of that"
        )
    if DTYPES.get(asked["dtype"] or "auto", "unknown") is not None:
        raise InputError(f"{line.where}: --dtype {asked['dtype']} is not simulated; profiles are of 16 bits")
    return tuple(_remarks(line, profile, named if not served else ""))


def _remarks(line: ServerLine, profile: Profile, unknown: str) -> list[str]:
    remarks = []
    if unknown:
        remarks.append(f"{line.where}: {unknown} is no LLM that is known by name; taken to be {profile.llm.name}")
    if line.version and engine_version(line.version)[:2] != engine_version(profile.engine)[:2]:
        remarks.append(f"{line.where} is of {line.version}, the profile of {profile.engine}")
    if (replicas := line.arguments.whole("data_parallel") or 1) > 1:
        remarks.append(f"{line.where}: one of its {replicas} replicas (--data-parallel-size) is simulated")
    return remarks


def on_line(config: EngineConfig) -> EngineConfig:
    """What a server takes that is told nothing of its host memory: as many adapters in it as there are slots."""
    is_settled = config.max_cpu_loras is not None or not config.max_loras
    return config if is_settled else config.replace(max_cpu_loras=config.max_loras)
