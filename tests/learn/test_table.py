"""The table of all models."""

from __future__ import annotations

from loratwin.learn.cases.search import PUBLISHED_GRID
from loratwin.learn.training.table import HEADER, compare_models, table_markdown
from tests.learn.small import made_up

EXPLORED = made_up(30)


def test_a_row_for_every_model_and_target() -> None:
    told: list[tuple[int, int]] = []
    rows = compare_models(
        EXPLORED, ["baseline", "linear"], ["served", "slots", "share"], progress=lambda *at: told.append(at)
    )
    assert [(row.score.model, row.score.target) for row in rows] == [
        (model, target) for target in ("served", "slots", "share") for model in ("baseline", "linear")
    ]
    assert told == [(i, 6) for i in range(7)]
    by_name = {(row.score.model, row.score.target): row for row in rows}
    assert 0 <= by_name["linear", "slots"].inside <= 1
    assert by_name["linear", "share"].score.f1 > 0.6
    assert by_name["linear", "served"].on_grid < by_name["baseline", "served"].on_grid


def test_markdown_has_a_dash_where_nothing_applies() -> None:
    (row,) = compare_models(EXPLORED, ["linear"], ["served"])
    lines = table_markdown([row]).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == len(HEADER) + 1
    assert cells[:2] == ["served (30)", "linear"]
    assert cells[HEADER.index("F1 starved")] == "–"
    assert cells[HEADER.index("published")] == "40.5"
    assert cells[HEADER.index("half-SMAPE %")] == f"{row.score.half_smape:.2f}"


def test_with_published_features_adapters_are_on_the_grid() -> None:
    (row,) = compare_models(EXPLORED, ["decision tree"], ["served"], published_features=True)
    assert row.score.num_rows == 30 and PUBLISHED_GRID[0] == 16
