"""The configs of 64 public repositories: all are read, with as many parameters as their names say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loratwin.llms import shapes_from_config

CONFIGS = Path(__file__).parents[3] / "shared" / "data" / "public" / "configs"
FOLDERS = sorted(path.name for path in CONFIGS.glob("*")) if CONFIGS.is_dir() else []
PUBLISHED = {
    "Maverick": 400.7, "Mixtral-8x7B": 46.7, "gpt-oss-20b": 20.9, "MiniMax-M2.7": 228.7, "MiMo-V2-Flash": 308.8,
    "DeepSeek-V3": 671.0, "GLM-5": 743.9, "Kimi-K2": 1026.4, "DeepSeek-V4-Flash": 284.0, "Step-3.7-Flash": 196.0,
    "Nano-30B-A3B": 31.6, "Lightning-30B-A3B": 31.6,
}  # fmt: skip
"""Billions by the makers' cards, of those whose names say something else."""

pytestmark = pytest.mark.skipif(not FOLDERS, reason="the public configs (../shared/data/public) are not here")


def in_name(name: str) -> float | None:
    """Billions that a name says: the first number before a B; of one that sees, those of its text part."""
    for part, billions in PUBLISHED.items():
        if part in name:
            return billions
    found = re.search(r"-(\d+(?:\.\d+)?)B", name)
    return float(found[1]) if found else None


@pytest.mark.parametrize("name", FOLDERS)
def test_parameters_are_those_of_the_name(name: str) -> None:
    """To 5 %, since names are rounded; small ones are named without their embeddings."""
    llm = shapes_from_config(CONFIGS / name, "vllm-0.33.0")
    said = in_name(name)
    if said is not None:
        text = (llm.num_parameters - llm.vision_parameters) / 1e9
        assert text == pytest.approx(said, rel=0.05 if said > 3 else 0.2)
    elif not any(part in name for part in ("M3", "K3", "V4-Pro")):
        raise AssertionError(f"{name}: what it should have is not known")
    assert llm.kv_bytes_per_token > 0


def test_active_parameters_are_those_of_the_name() -> None:
    """A22B, A3B and so on; to 10 %, or 0.7 billion of embedding and head that some do not count."""
    for name in FOLDERS:
        if found := re.search(r"-A(\d+)B", name):
            active = shapes_from_config(CONFIGS / name, "vllm-0.33.0").active_parameters / 1e9
            assert active == pytest.approx(float(found[1]), rel=0.1, abs=0.9), name
