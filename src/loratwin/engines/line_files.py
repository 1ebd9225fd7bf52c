"""Servers that files of deployments start: compose, Kubernetes, Helm values, vLLM's own `--config`, shell scripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config_file import config_words, option_words
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.engines.shell import (
    Started,
    expanded,
    expanded_words,
    is_image,
    started,
    started_by,
    version_of_image,
)
from loratwin.errors import InputError

_SHELLS = {"sh", "bash", "ash", "dash", "zsh"}
_TEMPLATE = re.compile(r"\{\{.*?\}\}")


def started_in(path: Path) -> list[Started]:
    """All servers of a file, in its order.

    Raises
    ------
    InputError
        It cannot be read, or is no YAML where its name says so.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--serve {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if path.suffix not in (".yaml", ".yml", ".json"):
        return started_by(text)
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError) as error:
        hint = "; a template of Helm: render it first, or give its values" if _TEMPLATE.search(text) else ""
        raise InputError(f"--serve {path}: not YAML ({' '.join(str(error).split())[:120]}){hint}") from None
    try:
        variables = _told_beside(path, documents)
        about = {"variables": variables, "maps": _config_maps(documents)}
        servers = [one for document in documents for one in _in_tree(document, "", about)]
    except RecursionError:
        raise InputError(f"--serve {path}: a part of it holds itself (an alias within its own anchor)") from None
    if not servers and len(documents) == 1 and isinstance(documents[0], dict):
        servers = _as_config(documents[0], str(path))
    return servers


def _told_beside(path: Path, documents: list[Any]) -> dict[str, str]:
    """Variables of the file `.env` beside a compose file, which it is read with."""
    composed = any(isinstance(document, dict) and "services" in document for document in documents)
    try:
        lines = (path.parent / ".env").read_text(encoding="utf-8-sig").splitlines() if composed else []
    except (OSError, UnicodeDecodeError):
        return {}
    said = (re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line) for line in lines)
    return {match[1]: _unquoted(match[2]) for match in said if match is not None}


def _config_maps(documents: list[Any]) -> dict[str, dict[str, Any]]:
    """What the file's own ConfigMaps hold, by name."""
    listed = [each for one in documents if isinstance(one, dict) for each in (one, *(one.get("items") or ()))]
    maps = [one for one in listed if isinstance(one, dict) and one.get("kind") == "ConfigMap"]
    return {_name(one): one["data"] for one in maps if isinstance(one.get("data"), dict)}


def _unquoted(value: str) -> str:
    """A value of `.env` without its quotes, or without the comment behind it."""
    if value[:1] in ("'", '"') and (end := value.find(value[0], 1)) > 0:
        return value[1:end]
    return re.sub(r"\s+#.*$", "", value)


def _as_config(document: Mapping[str, Any], where: str) -> list[Started]:
    """A file of `--config`: all its keys are options.

    Raises
    ------
    InputError
        All but a few are: vLLM would refuse these.
    """
    known = find_engine(DEFAULT).option_names() | {"model", "model-tag"}
    keys = [str(key).replace("_", "-").removeprefix("no-") for key in document]
    unknown = [key for key in keys if key not in known]
    if unknown and _TELLING & set(keys) and 2 * len(unknown) < len(keys):
        near = "".join(f"; did you mean {name!r}?" for name in get_close_matches(unknown[0], known, n=1))
        raise InputError(f"--serve {where}: {unknown[0]!r} is no option of any version of vLLM{near}")
    if not keys or unknown:
        return []
    return [Started("", DEFAULT, tuple(config_words(document, where)))]


def _in_tree(node: Any, name: str, about: Mapping[str, Any]) -> Iterator[Started]:
    """Servers below a node. `about`: what nodes above it say of the LLM and its parallelism."""
    if isinstance(node, list):
        for child in node:
            yield from _in_tree(child, name, about)
    if not isinstance(node, dict):
        return
    about = {**about, **_about(node)}
    server_name = name or _name(node)
    if node.get("kind") == "ConfigMap":
        yield from _in_scripts(node.get("data"), server_name)
        return
    server = _stack(node, server_name) or _container(node, server_name, about)
    if server is not None:
        yield server._replace(gpu=about.get("gpu", ""))
        return
    for key, child in node.items():
        if key not in ("env", "environment"):
            yield from _in_tree(child, server_name if server_name or key in _NO_NAMES else str(key), about)


def _in_scripts(data: Any, name: str) -> Iterator[Started]:
    """Servers of the scripts that a ConfigMap holds."""
    for text in data.values() if isinstance(data, dict) else ():
        if isinstance(text, str) and _STARTS.search(text):
            yield from started_by(text, name)


_STARTS = re.compile(r"\bvllm\s+serve\b|-m\s+(?:vllm\.entrypoints|sglang\.launch_server)")


def _name(node: Mapping[str, Any]) -> str:
    metadata = node.get("metadata")
    return str((metadata.get("name") if isinstance(metadata, dict) else None) or node.get("name") or "")


_NO_NAMES = ("modelSpec", "services", "servingEngineSpec", "items", "spec", "template", "containers")
"""Keys that name no server."""


def _about(node: Mapping[str, Any]) -> dict[str, Any]:
    """The LLM and GPUs as values of llm-d's modelservice and KServe say it beside the container."""
    stated: dict[str, Any] = {}
    artifacts, parallelism = node.get("modelArtifacts"), node.get("parallelism")
    for said in (artifacts, node.get("model")):
        if not isinstance(said, dict):
            continue
        uri, called = said.get("uri") or said.get("storageUri"), said.get("name")
        if uri:
            stated["model"] = str(called) if called and str(uri).startswith("pvc") else _repository(uri)
        elif called and said is artifacts:
            stated["model"] = str(called)
    if node.get("storageUri"):
        stated["model"] = _repository(node["storageUri"])
    if isinstance(parallelism, dict) and isinstance(parallelism.get("tensor"), int):
        stated["tensor"] = parallelism["tensor"]
    if gpu := _gpu(node):
        stated["gpu"] = gpu
    return stated


_GPU_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator",
               "karpenter.k8s.aws/instance-gpu-name")  # fmt: skip
"""Labels of Kubernetes' nodes that name their GPU."""


def _gpu(node: Mapping[str, Any]) -> str:
    """The GPU that a pod asks for by its node's labels; "": none, or several would do."""
    selector = node.get("nodeSelector")
    named = [selector.get(label) for label in _GPU_LABELS] if isinstance(selector, dict) else []
    for part in (node.get("affinity"), node.get("nodeSelectorTerms")):
        named += _required(part)
    gpus = {str(name) for name in named if name}
    return gpus.pop() if len(gpus) == 1 else ""


def _required(part: Any) -> list[Any]:
    """Values of the terms that name a GPU, wherever they stand."""
    if isinstance(part, dict) and part.get("key") in _GPU_LABELS and part.get("operator", "In") == "In":
        return list(part.get("values") or ())
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [value for child in children for value in _required(child)]


def _repository(uri: Any) -> str:
    return re.sub(r"^hf://", "", str(uri))


def _stack(node: Mapping[str, Any], name: str) -> Started | None:
    """One entry of `servingEngineSpec.modelSpec` of vLLM's production stack."""
    model = node.get("modelURL")
    if not isinstance(model, str):
        return None
    said = node.get("vllmConfig")
    settings: dict[str, Any] = said if isinstance(said, dict) else {}
    lora = {key: node[key] for key in ("enableLoRA", "enableLora") if key in node}
    known = find_engine(DEFAULT).option_names()
    words = [model]
    for key, value in {**settings, **lora}.items():
        if (option := _hyphenated(key)) in known:
            words += option_words(option, value)
    extra = settings.get("extraArgs") or []
    words += map(str, extra if isinstance(extra, list) else str(extra).split())
    words = expanded_words(words, _environment(node, {}))
    tag = f"{node.get('repository', 'vllm/vllm-openai')}:{node.get('tag', '')}"
    return Started(name, DEFAULT, tuple(words), version_of_image(tag))


def _hyphenated(key: str) -> str:
    """`maxLoraRank` as `max-lora-rank`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", key.replace("LoRA", "Lora").replace("LORA", "Lora")).lower()


def _container(node: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> Started | None:
    """A container: `command` and `args` of Kubernetes, `entrypoint` and `command` of compose; None: no server."""
    image_said = node.get("image")
    image = _image(image_said)
    inside = image_said if isinstance(image_said, dict) else {}
    entry = node.get("entrypoint") or (node.get("command") if "args" in node else None) or inside.get("command")
    rest = node.get("args") or (None if "args" in node else node.get("command") or node.get("extraArgs"))
    if entry is None and rest is None and node.get("modelCommand") is None:
        return None
    outer_variables = about.get("variables", {})
    said = _environment(node, about.get("maps", {}))
    variables = {key: expanded(value, outer_variables) for key, value in said.items()} | outer_variables
    image = expanded(image, variables)
    version = version_of_image(image)
    words = [*_listed(entry), *_listed(rest)]
    shell = _shell_text(words)
    if shell is not None:
        servers = started_by(shell, name, variables, version)
        return servers[0] if servers else None
    direct = started(words, name, variables, version)
    if direct is not None:
        return _with_about(direct, about, node)
    options = expanded_words(words, variables)
    plain_image = is_image(image) and entry is None
    if node.get("modelCommand") in ("vllmServe", "imageDefault") or plain_image or _are_options(options):
        return _with_about(Started(name, DEFAULT, tuple(options), version), about, node)
    return None


def _with_about(server: Started, about: Mapping[str, Any], node: Mapping[str, Any]) -> Started:
    """The LLM and the GPUs that values say beside the arguments, which the chart puts in."""
    arguments = ServerArguments(find_engine(server.engine), server.words)
    words = list(server.words)
    if "--model_id" in " ".join(words):
        words = [re.sub(r"^--model_id\b", "--model", word) for word in words]
    elif not arguments.text("model") and (llm := about.get("model") or node.get("model")):
        words = [llm, *words] if isinstance(llm, str) else words
    if about.get("tensor", 1) > 1 and "tensor_parallel" not in arguments:
        words += ["--tensor-parallel-size", str(about["tensor"])]
    return server._replace(words=tuple(words))


_TELLING = {"model", "model-id", "max-model-len", "enable-lora", "max-loras", "served-model-name", "max-num-seqs",
            "tensor-parallel-size", "gpu-memory-utilization", "lora-modules"}  # fmt: skip
"""Options that hardly another program has."""


def _are_options(words: list[str]) -> bool:
    """Whether a list of arguments can only be a vLLM's: some of its options, and nothing but options of that kind."""
    names = [word.partition("=")[0].lstrip("-").replace("_", "-") for word in words if word.startswith("--")]
    known = find_engine(DEFAULT).option_names() | {"model-id", "model-name"}
    return bool(names) and bool(_TELLING & set(names)) and all(name.removeprefix("no-") in known for name in names)


def _shell_text(words: list[str]) -> str | None:
    """What `sh -c TEXT` runs; None: no shell. A single word with blanks is one, too."""
    if words and words[0].rpartition("/")[2] in _SHELLS:
        flags = [i for i, word in enumerate(words) if re.fullmatch(r"-[a-z]*c", word)]
        return "\n".join(words[flags[0] + 1 :][:1]) if flags else None
    return words[0] if len(words) == 1 and re.search(r"\s", words[0].strip()) else None


def _listed(said: Any) -> list[str]:
    """A list as it is; a text as a shell splits it."""
    if isinstance(said, list):
        return [str(word) for word in said if word is not None]
    if not isinstance(said, str):
        return []
    try:
        return shlex.split(said.replace("\\\n", " "))
    except ValueError as error:
        raise InputError(f"--serve: {error} in {said[:80]!r}") from None


def _image(said: Any) -> str:
    """`repository:tag`, in one text or, as in Helm values, in two."""
    if isinstance(said, dict):
        return f"{said.get('repository', '')}:{said.get('tag', '')}"
    return str(said or "")


def _environment(node: Mapping[str, Any], maps: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Variables of a container, as a list of name and value, a list of NAME=value, or a mapping; or of a ConfigMap."""
    said = node.get("env") or node.get("environment") or []
    if isinstance(said, dict):
        return {str(key): str(value) for key, value in said.items() if not isinstance(value, dict)}
    variables: dict[str, str] = {}
    whole = node.get("envFrom")
    for one in whole if isinstance(whole, list) else []:
        variables |= {key: str(value) for key, value in _map_of(one, "configMapRef", maps).items()}
    for one in said if isinstance(said, list) else []:
        source: Any = one.get("valueFrom") if isinstance(one, dict) else None
        held = _map_of(source, "configMapKeyRef", maps)
        if isinstance(one, dict) and "value" in one:
            variables[str(one.get("name"))] = str(one["value"])
        elif held and source["configMapKeyRef"].get("key") in held:
            variables[str(one["name"])] = str(held[source["configMapKeyRef"]["key"]])
        elif isinstance(one, str) and "=" in one:
            key, _, value = one.partition("=")
            variables[key] = value
    return variables


def _map_of(said: Any, key: str, maps: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The ConfigMap that a part of a container names; empty: none of this file's."""
    named = said.get(key) if isinstance(said, dict) else None
    return maps.get(str(named.get("name")), {}) if isinstance(named, dict) else {}
