"""Which batches: every combination of sizes, lengths, adapters and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from loratwin.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Requests that are computed together.

    Parameters
    ----------
    requests
        How many.
    prompt_tokens, output_tokens
        Of each.
    adapters
        Distinct adapters; 0: all ask for the LLM itself.
    rank
        Of these adapters; 0: whichever come first.
    """

    requests: int
    prompt_tokens: int
    output_tokens: int
    adapters: int = 0
    rank: int = 0

    @property
    def name(self) -> str:
        """Of its record."""
        of = f"-a{self.adapters}" + (f"r{self.rank}" if self.rank else "") if self.adapters else ""
        return f"b{self.requests}-p{self.prompt_tokens}-o{self.output_tokens}{of}"


def batch_grid(
    requests: Sequence[int],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    adapters: Sequence[int] = (0,),
    ranks: Sequence[int] = (),
) -> list[Batch]:
    """Every combination, less those with more adapters than requests.

    Parameters
    ----------
    requests
        In a batch.
    prompt_tokens, output_tokens
        Of each request.
    adapters
        Distinct ones in the batch; 0: none.
    ranks
        Of the adapters; none: whichever come first.

    Returns
    -------
    list of Batch
        Each once.

    Raises
    ------
    InputError
        A number is below 1 (adapters: below 0), or nothing is left.
    """
    for what, numbers in (("batch", requests), ("prompt", prompt_tokens), ("output", output_tokens), ("rank", ranks)):
        if any(number < 1 for number in numbers):
            raise InputError(f"{what} = {min(numbers)}, but it must be at least 1")
    if any(length < 2 for length in output_tokens):
        raise InputError("output = 1, but it must be at least 2: the first token comes of the prompt")
    found = []
    for size, prompt, output, count in product(requests, prompt_tokens, output_tokens, adapters):
        if count <= size:
            found += [Batch(size, prompt, output, count, rank) for rank in (ranks if count and ranks else [0])]
    if not found:
        raise InputError("no batch is left: each has more adapters than requests")
    return list(dict.fromkeys(found))
