"""The profile run of vLLM's first engine: its parts, each by hand."""

from __future__ import annotations

import pytest

from loratwin.engines.versions import ProfileRun
from loratwin.llms import find_llm
from loratwin.perf.allocator import MIB
from loratwin.perf.profile_run import Sizes, charged_bytes

LLM = find_llm("llama-2-7b")
HALF = ProfileRun(float_logits=False, charges_reserved=True)
FLOAT = ProfileRun(float_logits=True, charges_reserved=False)


def charged(how: ProfileRun, sequences: int, tokens: int = 4096, slots: int = 0) -> float:
    """MiB; slots without their own tensors."""
    embedding = [LLM.vocab_size * LLM.hidden_size * 2] if slots else []
    return charged_bytes(LLM, how, Sizes(sequences, tokens, slots, 256 if slots else 0), embedding) / MIB


@pytest.mark.parametrize(
    ("how", "sequences", "copies"),
    [(HALF, 4096, 2 + 2 + 8 + 8 + 10), (HALF, 2048, 30), (FLOAT, 4096, 2 + 4 + 4 + 8 + 8 + 12), (FLOAT, 1024, 38)],
)
def test_bytes_for_each_logit(how: ProfileRun, sequences: int, copies: int) -> None:
    """Beside what does not depend on the vocabulary."""
    numbers = sequences * LLM.vocab_size / MIB
    forward = charged(how, 1)
    assert copies * numbers < charged(how, sequences) < copies * numbers + forward


def test_fewer_than_128_sequences_are_sorted_as_one_list() -> None:
    """50 bytes for each logit instead of 38; each of seven blocks may keep a rest of 1 MiB."""
    few = [charged(FLOAT, number, tokens=128) for number in (100, 127, 128)]
    assert few[1] - few[0] == pytest.approx(27 * LLM.vocab_size * 50 / MIB, abs=7)
    assert few[2] - few[1] == pytest.approx((128 * 38 - 127 * 50) * LLM.vocab_size / MIB, abs=7)


def test_a_forward_pass_of_one_sequence() -> None:
    """4096 tokens: residual, attention's output (qkv before it, twice the output, hidden), the MLP, cuBLAS."""
    hidden = 4096 * 4096 * 2 / MIB
    mlp = 3 * 4096 * 11008 * 2 / MIB
    held = charged(HALF, 1)
    assert mlp + 3 * hidden + 32 < held < mlp + 10 * hidden + 32
    assert charged(FLOAT, 1) < held, "the most in use is less than all that is held"


@pytest.mark.parametrize(
    ("slots", "per_slot", "why"),
    [
        ((256, 464), 4.0, "two tables of 256 x 4096 numbers for each slot, which no tensor of the sampler fits into"),
        ((640, 864), 4.0, "the sampler's indices are in what is left of both, the rest is not enough for more"),
    ],
)
def test_logits_of_the_added_vocabulary(slots: tuple[int, int], per_slot: float, why: str) -> None:
    few, many = (charged(HALF, 4096, slots=number) for number in slots)
    assert (many - few) / (slots[1] - slots[0]) == pytest.approx(per_slot, abs=0.02), why


def test_the_sampler_takes_what_the_added_logits_left() -> None:
    """Its two lists of indices (1008 MiB each) fit into them from about 512 and from about 630 slots on."""
    indices = 4096 * (32000 + 256) * 8 / MIB
    at = {number: charged(HALF, 4096, slots=number) - 4 * number for number in (464, 512, 640)}
    assert at[512] - at[464] == pytest.approx(-indices, abs=4)
    assert at[640] - at[464] == pytest.approx(-2 * indices, abs=4)
