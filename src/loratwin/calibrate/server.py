"""What the servers of the evidence ran with, beside what a plan decides: a plan's command gives it again."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin.calibrate.evidence import Evidence
from loratwin.engines.as_started import own_options
from loratwin.engines.registry import recorded_arguments
from loratwin.perf import ProfiledServer


def profiled_server(evidence: Evidence) -> ProfiledServer | None:
    """As the records tell it; None: none does."""
    provenances = [run.provenance for run in evidence.all.values()]
    options = [own_options(recorded_arguments(one)) for one in provenances if one.server_args]
    variables = [one.server_env for one in provenances if one.server_env is not None]
    if not options and not variables:
        return None
    common = [_in_all(options), _in_all(variables)]
    once = dict.fromkeys(word for words in (*options, *variables) for word in words)
    varied = tuple(word for word in once if not any(word in words for words in common))
    return ProfiledServer(
        options=common[0] if options else None, environment=common[1] if variables else None, varied=varied
    )


def _in_all(several: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(word for word in (several[0] if several else ()) if all(word in words for words in several))
