"""Which weights a checkpoint keeps in which type of numbers, from what its files say of it.

Read are `quantization_config` (also below `text_config`), the older `compression_config`, and `hf_quant_config.json`
of NVIDIA's ModelOpt. Where none is there but the LLM's name says so (`-AWQ`, `-FP8`, ...), what such checkpoints are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any, NamedTuple

from loratwin.errors import InputError

ROOTS = ("model.", "model.language_model.", "language_model.model.", "language_model.", "backbone.", "transformer.", "")
"""What stands before `layers.0` in the names of a checkpoint's weights."""


class Quantization(NamedTuple):
    """The types of numbers of a checkpoint's weights.

    Attributes
    ----------
    title
        What it is called, for people; None: all of 16 bits.
    type_of
        The type of the weights of a layer, by its place and their path below it.
    head
        The type of the head's.
    kv_number_bytes
        Of keys and values, where the checkpoint says so.
    """

    title: str | None
    type_of: Callable[[int, str], str]
    head: str = "bfloat16"
    kv_number_bytes: float | None = None


NONE = Quantization(None, lambda index, path: "bfloat16")


class Names:
    """A set of names of modules: plain ones (or parts of them), with `*`, or `re:` and a pattern."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._plain, self._roots, found = set[str](), set[str](), list[str]()
        for pattern in map(str, patterns):
            if pattern.startswith("re:"):
                found.append(pattern[3:])
            elif "*" in pattern:
                found.append(translate(pattern).removesuffix(r"\Z").removesuffix(r"\z"))
            else:
                self._plain.add(pattern.rstrip("."))
        self._patterns = re.compile("|".join(f"(?:{each})" for each in found)) if found else None

    def has(self, name: str) -> bool:
        """Whether a module is among them, or below one, or named by its last parts."""
        parts = name.split(".")
        if self._patterns and self._patterns.match(name):
            return True
        return any(".".join(parts[i:j]) in self._plain for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))


def _paths(index: int, path: str) -> list[str]:
    return [f"{root}layers.{index}.{path}" for root in ROOTS]


def _all_but(ignored: Names, numbers: str) -> Callable[[int, str], str]:
    def type_of(index: int, path: str) -> str:
        return "bfloat16" if any(ignored.has(each) for each in _paths(index, path)) else numbers

    return type_of


def quantization_of(
    where: str, config: Mapping[str, Any], modelopt: Mapping[str, Any] | None, name: str
) -> Quantization:
    """What the files of a checkpoint say.

    Parameters
    ----------
    config
        `config.json`.
    modelopt
        `hf_quant_config.json`, if there is one.
    name
        Of the LLM or its folder, for checkpoints whose files say nothing.

    Raises
    ------
    InputError
        A method that is not known, or a file that does not say what it must.
    """
    text = _object(config.get("text_config"))
    said = config.get("quantization_config") or text.get("quantization_config") or config.get("compression_config")
    if said is None and modelopt is not None:
        said = {"quant_method": "modelopt", **(modelopt.get("quantization") or modelopt)}
    if not said:
        return by_name(name, _has_experts(config))
    if not isinstance(said, Mapping):
        raise InputError(f"{where}: quantization_config = {said!r}, but it must be an object")
    method = str(said.get("quant_method") or ("modelopt" if said.get("quant_algo") else "compressed-tensors")).lower()
    if said.get("quant_algo") and method in ("fp8", "modelopt", "modelopt_fp4", "modelopt_mixed"):
        return _modelopt(where, said)
    if method not in _METHODS:
        raise InputError(
            f"{where}: quantization method {method!r} is not known; known are {', '.join(sorted(_METHODS))}"
        )
    return _METHODS[method](where, {**said, "expert_dtype": config.get("expert_dtype")})


def _has_experts(config: Mapping[str, Any]) -> bool:
    text = {**config, **_object(config.get("text_config"))}
    return any((text.get(key) or 0) for key in ("num_experts", "num_local_experts", "n_routed_experts"))


def _kept(said: Mapping[str, Any]) -> Names:
    """Modules that stay as they were."""
    keys = ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")
    return Names(name for key in keys for name in _list(said.get(key)))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kv(said: Mapping[str, Any]) -> float | None:
    scheme = said.get("kv_cache_scheme") or said.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return {4: 0.5625, 8: 1.0}.get(bits) if isinstance(bits := scheme.get("num_bits", 8), int) else None
    return (
        1.0 if scheme and str(scheme).upper() in ("FP8", "INT8") else 0.5625 if str(scheme).upper() == "NVFP4" else None
    )


def _fp8(where: str, said: Mapping[str, Any]) -> Quantization:
    block = said.get("weight_block_size")
    if block is not None and block != [128, 128]:
        raise InputError(f"{where}: weight_block_size = {block!r}, but blocks must be of 128 x 128 weights")
    numbers = "fp8-block" if block else "fp8"
    others = _all_but(_kept(said), numbers)
    if said.get("expert_dtype") == "fp4":  # DeepSeek V4: routed experts in MXFP4
        return Quantization(
            "FP8 in blocks, experts MXFP4", lambda i, p: "mxfp4" if p == "ffn.experts" else others(i, p)
        )
    return Quantization("FP8 in blocks of 128 x 128" if block else "FP8", others)


def _compressed(where: str, said: Mapping[str, Any]) -> Quantization:
    groups, kept = said.get("config_groups"), _kept(said)
    if not isinstance(groups, Mapping) or not groups:
        raise InputError(f"{where}: config_groups = {groups!r}, but it must say how the weights are kept")
    if not all(isinstance(group, Mapping) for group in groups.values()):
        raise InputError(f"{where}: config_groups = {groups!r}, but each group must be an object")
    types = [(Names(_list(group.get("targets")) or ["Linear"]), _scheme(where, group)) for group in groups.values()]
    titles = dict.fromkeys(numbers for _, numbers in types)

    def type_of(index: int, path: str) -> str:
        names = _paths(index, path)
        if any(kept.has(each) for each in names):
            return "bfloat16"
        return next(
            (numbers for targets, numbers in types if any(targets.has(each) for each in ("Linear", *names))), "bfloat16"
        )

    head = next((n for t, n in types if t.has("lm_head") or t.has("Linear")), "bfloat16")
    return Quantization(", ".join(titles), type_of, "bfloat16" if kept.has("lm_head") else head, _kv(said))


def _scheme(where: str, group: Mapping[str, Any]) -> str:
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        return "bfloat16"
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size") or 0
    strategy = weights.get("strategy") or ("group" if size else "tensor")
    if kind == "float" and bits == 8:
        return {"block": "fp8-block", "tensor": "fp8"}.get(strategy, "mxfp8" if size == 32 else "fp8-channel")
    if kind == "float" and bits == 4:
        return "mxfp4" if size == 32 else "nvfp4"
    if kind == "int" and bits in (2, 3, 4, 8):
        if bits == 8 and not size:
            return "int8"
        return f"int{bits}-g{max(0, size)}" + ("" if weights.get("symmetric", True) else "-z")
    raise InputError(f"{where}: weights of {bits} bits, type {kind!r}, are not known")


def _modelopt(where: str, said: Mapping[str, Any]) -> Quantization:
    algorithm, kept = str(said["quant_algo"]).upper(), _kept(said)
    layers = said.get("quantized_layers")
    if algorithm == "MIXED_PRECISION":
        if not isinstance(layers, Mapping):
            return _compressed(where, said)
        return _mixed(where, said, layers)
    if algorithm not in _ALGORITHMS:
        raise InputError(f"{where}: quant_algo = {algorithm!r} is not known; known are {', '.join(_ALGORITHMS)}")
    numbers = _ALGORITHMS[algorithm]
    if numbers == "int4-g128" and said.get("group_size"):
        numbers = f"int4-g{int(said['group_size'])}"
    head = "bfloat16" if kept.has("lm_head") else numbers
    return Quantization(algorithm, _all_but(kept, numbers), head, _kv(said))


_ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel",
    "FP8_PB_WO": "fp8-block",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A8_NVFP4_FP8": "nvfp4",
    "MXFP8": "mxfp8",
    "MXFP4": "mxfp4",
    "W4A16_AWQ": "int4-g128",
    "W4A8_AWQ": "int4-g128",
    "INT4_AWQ": "int4-g128",
    "W8A8_SQ_PER_CHANNEL": "int8",
}


def _mixed(where: str, said: Mapping[str, Any], layers: Mapping[str, Any]) -> Quantization:
    """A type for each module; DeepSeek V4's others are FP8 in blocks."""
    types: dict[str, str] = {}
    for module, how in layers.items():
        algorithm = str(how.get("quant_algo") if isinstance(how, Mapping) else how).upper()
        if algorithm not in _ALGORITHMS:
            raise InputError(f"{where}: quant_algo = {algorithm!r} is not known; known are {', '.join(_ALGORITHMS)}")
        types[module] = _ALGORITHMS[algorithm]
    rest = "fp8-block" if said.get("weight_block_size") and said.get("quant_method") == "fp8" else "bfloat16"
    kept = Names(name for name in _list(said.get("ignore")) if rest == "bfloat16")

    def type_of(index: int, path: str) -> str:
        for name in _paths(index, path):
            found = types.get(name) or next((types[each] for each in types if each.startswith(name + ".")), None)
            if found:
                return found
            if kept.has(name):
                return "bfloat16"
        return rest

    titles = dict.fromkeys(types.values())
    return Quantization(
        "mixed: " + ", ".join([*titles, *([rest] if rest != "bfloat16" else [])]),
        type_of,
        types.get("lm_head", "bfloat16"),
        _kv(said),
    )


def _awq(where: str, said: Mapping[str, Any]) -> Quantization:
    bits, size = said.get("bits") or said.get("w_bit") or 4, said.get("group_size") or said.get("q_group_size") or 128
    return Quantization(
        f"AWQ, {bits} bits", _all_but(_kept(said), _whole(where, bits, size, said.get("zero_point", True)))
    )


def _gptq(where: str, said: Mapping[str, Any]) -> Quantization:
    bits, size = said.get("bits") or 4, said.get("group_size") or 128
    return Quantization(
        f"GPTQ, {bits} bits", _all_but(_kept(said), _whole(where, bits, size, not said.get("sym", True)))
    )


def _whole(where: str, bits: Any, size: Any, zeros: Any) -> str:
    if bits not in (2, 3, 4, 8) or type(size) is not int:
        raise InputError(f"{where}: weights of {bits!r} bits in groups of {size!r} are not known")
    return f"int{bits}-g{max(0, size)}" + ("-z" if zeros else "")


def _bitsandbytes(where: str, said: Mapping[str, Any]) -> Quantization:
    four = bool(said.get("load_in_4bit") or said.get("_load_in_4bit"))
    return Quantization(
        f"bitsandbytes, {4 if four else 8} bits", _all_but(_kept(said), "bnb-4bit" if four else "bnb-8bit")
    )


def _mxfp4(where: str, said: Mapping[str, Any]) -> Quantization:
    """gpt-oss: the experts alone."""
    return Quantization("MXFP4 (experts)", lambda index, path: "mxfp4" if path.endswith("experts") else "bfloat16")


def _channels(where: str, said: Mapping[str, Any]) -> Quantization:
    return Quantization("FP8", _all_but(_kept(said), "fp8-channel"))


_METHODS: dict[str, Callable[[str, Mapping[str, Any]], Quantization]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _channels,
    "compressed-tensors": _compressed,
    "awq": _awq,
    "gptq": _gptq,
    "auto-round": _gptq,
    "auto_round": _gptq,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _mxfp4,
}

_BY_NAME = (
    (r"nvfp4a?1?6?|fp4", "nvfp4"),
    (r"mxfp4", "mxfp4"),
    (r"bnb-?4bit|(?<![a-z])4bit-bnb|unsloth-bnb", "bnb-4bit"),
    (r"bnb-?8bit", "bnb-8bit"),
    (r"awq", "int4-g128-z"),
    (r"gptq-?(?:int)?8|int8-gptq", "int8-g128"),
    (r"gptq", "int4-g128"),
    (r"w4a16(?:-g(?P<group>\d+))?", "int4-g128"),
    (r"(?:quantized\.)?w8a8|int8|w8a16", "int8"),
    (r"fp8(?:-dynamic|-kv)?|fp8_dynamic", "fp8-channel"),
    (r"int4|4bit|round", "int4-g128"),
    (r"dynamic", "fp8-channel"),
)

MARKS = re.compile(
    r"[-._](?:quantized\.w\d+a\d+|unsloth-bnb-4bit|bnb-4bit|bnb-8bit|4bit|awq(?:-int4|-marlin)?|gptq(?:-(?:int)?[48](?:bit)?)?(?:-g\d+)?|"
    r"w4a16(?:-g\d+)?|w8a8|w8a16|fp8(?:[-_](?:dynamic|kv|block|static(?:-pertensor)?))*|nvfp4(?:a16)?|fp4|mxfp4|int[48]|"
    r"autoround|auto-round|dynamic)+(?=$)",
    re.IGNORECASE,
)
"""What a name ends with when the weights are quantized."""

METHODS = {
    **{name: name for name in ("fp8", "awq", "gptq", "w4a16", "w8a8", "bnb-4bit", "bnb-8bit", "nvfp4", "mxfp4")},
    "awq_marlin": "awq", "gptq_marlin": "gptq", "bitsandbytes": "bnb-4bit",
}  # fmt: skip
"""The plain ones among these, and what vLLM's `--quantization` calls them."""


def by_name(name: str, has_experts: bool = False) -> Quantization:
    """What a name says of the weights: every linear layer of the layers, of a mixture that NVIDIA made the experts."""
    mark = MARKS.search(name)
    if mark is None:
        return NONE
    numbers = next(numbers for pattern, numbers in _BY_NAME if re.search(pattern, mark[0].lower()))
    only_experts = has_experts and numbers in ("nvfp4", "mxfp4")
    title = f"{numbers} by its name" + (" (experts alone, as such checkpoints usually are)" if only_experts else "")
    return Quantization(title, lambda i, path: numbers if "experts" in path or not only_experts else "bfloat16")
