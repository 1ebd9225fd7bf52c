"""Run and its tables: checked when made, read-only after."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.records import AdapterTable, EngineConfig, ReferenceLoad, RequestTable, Run


def requests(**changes: object) -> RequestTable:
    columns: dict[str, object] = {
        "arrival_s": [0.0, 1.0],
        "admitted_s": [0.0, np.nan],
        "first_token_s": [0.5, np.nan],
        "finish_s": [2.0, np.nan],
        "adapter": [0, -1],
        "prompt_tokens": [10, 20],
        "output_tokens": [3, 4],
        "num_preemptions": [0, 0],
        "refused": [False, True],
    }
    return RequestTable(**{**columns, **changes})  # type: ignore[arg-type]


def adapters() -> AdapterTable:
    return AdapterTable(name=("a0",), rank=[8], rate_per_s=[0.5])  # type: ignore[arg-type]


def test_columns_get_their_dtype_and_cannot_be_changed() -> None:
    table = requests()
    assert table.prompt_tokens.dtype == np.int32
    assert table.refused.dtype == np.bool_
    assert len(table) == 2
    assert "sent_s" not in table.columns()
    with pytest.raises(ValueError, match="read-only"):
        table.arrival_s[0] = 7.0


def test_the_callers_array_is_neither_copied_nor_frozen() -> None:
    mine = np.array([0.0, 1.0])
    table = requests(arrival_s=mine)
    assert np.shares_memory(table.arrival_s, mine)
    mine[0] = 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finish_s": [1.0]}, "columns differ in length"),
        ({"arrival_s": [[0.0, 1.0]]}, r"expected one dimension, found shape \(1, 2\)"),
        ({"adapter": [0.5, 1.0]}, "RequestTable.adapter: expected int32, found float64"),
        ({"refused": [0, 1]}, "expected bool, found int"),
        ({"prompt_tokens": [1, 2**31]}, "RequestTable.prompt_tokens: a value beyond what int32 holds"),
        ({"finish_s": [np.inf, 1.0]}, "infinite"),
        ({"arrival_s": [np.nan, 1.0]}, "every request of a run has arrived"),
        ({"arrival_s": [1.0, 0.5]}, "not ascending"),
        ({"adapter": [-2, 0]}, "below -1"),
    ],
)
def test_a_bad_column_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        requests(**changes)


def test_every_adapter_has_a_name() -> None:
    with pytest.raises(InputError, match="1 names for 2 adapters"):
        AdapterTable(name=("a0",), rank=[8, 8], rate_per_s=[0.5, 0.5])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "predicted"}, "Run.kind: 'predicted'; valid: simulated, measured"),
        ({"window_s": 0.0}, "positive number of seconds"),
        ({"window_s": float("nan")}, "positive number of seconds"),
        ({"client_overhead_s": float("nan")}, "client_overhead_s: nan"),
        ({"client_overhead_s": -0.1}, "client_overhead_s: -0.1"),
        ({"requests": requests(adapter=[1, 0])}, "asks for adapter 1 of 1 adapters"),
    ],
)
def test_a_run_fits_together(changes: dict[str, object], message: str) -> None:
    parts: dict[str, object] = {
        "kind": "simulated",
        "window_s": 10.0,
        "requests": requests(),
        "adapters": adapters(),
        "config": EngineConfig(max_loras=1),
        "kv_tokens": 160,
    }
    with pytest.raises(InputError, match=message):
        Run(**{**parts, **changes})  # type: ignore[arg-type]


def test_requests_as_columns_name_adapters_and_failures() -> None:
    table = requests(failure=[-1, 0], adapter=[0, -1])
    run = Run(
        kind="measured", window_s=10.0, requests=table, adapters=adapters(), config=EngineConfig(max_loras=1),
        kv_tokens=None, failures=("HTTP 500",),
    )  # fmt: skip
    columns = run.request_columns()
    assert columns["adapter_name"].tolist() == ["a0", ""] and columns["adapter_rank"].tolist() == [8, 0]
    assert columns["failure_kind"].tolist() == ["", "HTTP 500"]
    np.testing.assert_array_equal(columns["finish_s"], table.finish_s)
    assert "sent_s" not in columns and {len(values) for values in columns.values()} == {2}


def test_columns_become_a_table_of_pyarrow() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    none = Run("simulated", 10.0, requests(adapter=[-1, -1]), AdapterTable((), np.array([]), np.array([])),
               EngineConfig(max_loras=0), None)  # fmt: skip
    table = pyarrow.table(none.request_columns())
    assert table.num_rows == 2 and table.column("adapter_name").to_pylist() == ["", ""]
    assert "failure_kind" not in table.column_names


def test_a_reference_load_says_how_the_speed_changed() -> None:
    slower, once = ReferenceLoad(0.004, 0.008), ReferenceLoad(0.004)
    assert slower.change == pytest.approx(np.log(2)) and slower.mean_s == pytest.approx(0.004 * 2**0.5)
    assert str(slower).endswith("8 ms after it (+100 %): the machine's speed changed under the run")
    assert (
        once.mean_s == pytest.approx(0.004)
        and np.isnan(once.change)
        and str(once) == "reference load: 4 ms between tokens"
    )
    assert "speed changed" not in str(ReferenceLoad(0.004, 0.0043))
