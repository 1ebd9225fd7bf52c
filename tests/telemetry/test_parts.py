"""Series that show the same twice, or parts beside their total, count once."""

from __future__ import annotations

import numpy as np

from loratwin.records.series import Samples, Series
from loratwin.telemetry.names import canonical


def shown(*series: tuple[str, dict[str, str], float]) -> Samples:
    return Samples(
        "server", np.zeros(1), tuple(Series(name, tuple(labels.items()), np.array([at])) for name, labels, at in series)
    )


def test_priorities_and_ranks_of_sglang_are_not_added_to_their_total() -> None:
    name, rank = "sglang:num_running_reqs", {"tp_rank": "0"}
    found = canonical(
        shown(
            (name, {**rank, "priority": ""}, 5),
            (name, {**rank, "priority": "0"}, 2),
            (name, {**rank, "priority": "1"}, 3),
            (name, {"tp_rank": "1", "priority": ""}, 5),
            (name, {"tp_rank": "1", "priority": "0"}, 5),
        )
    )
    assert found["running"].values.tolist() == [5]


def test_engines_and_parts_without_a_total_are_added() -> None:
    name = "sglang:num_running_reqs"
    assert canonical(shown((name, {"dp_rank": "0"}, 5), (name, {"dp_rank": "1"}, 2)))["running"].values.tolist() == [7]
    parts = shown((name, {"priority": "0"}, 5), (name, {"priority": "1"}, 2))
    assert canonical(parts)["running"].values.tolist() == [7]
