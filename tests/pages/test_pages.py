"""Every code block of README, docs and their like is executed, or says why not and is read word by word."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import Gauge

from loratwin.records import save_run
from loratwin.synthetic import NewLlm, make_llm
from loratwin.workload import draw, parse_spec
from tests.calibrate.known_server import known_server, write_noisy_tables
from tests.calibrate.measured import LLAMA, QWEN
from tests.markdown import ROOT, pages
from tests.metrics.runs import make_run
from tests.pages.blocks import blocks_of, marks, read_blocks
from tests.pages.checking import check
from tests.pages.running import Page, Serve, serve_adapters
from tests.slow import SLOW
from tests.telemetry.metrics_server import metrics_server
from tests.traffic.sent import as_log
from tests.validate.test_public import KV, SERVING, STEP, written

LANGUAGES = {"bash", "python", "yaml", "csv", "text"}
"""`text` is what cannot be run: output, pictures."""

PAGES = {str(page.relative_to(ROOT)): page for page in pages() if blocks_of(page)}
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.68,374,44
2023-11-16 18:15:50.99,396,109
"""
TRAFFIC = """\
window_s: 120
lengths: {prompt: 32, output: 8}
groups:
  - {name: customer, count: 4, total_rate: 8, ranks: [8]}
"""


def traffic(folder: Path) -> None:
    (folder / "traffic.yaml").write_text(TRAFFIC)


def two_runs(folder: Path) -> None:
    """A server's and the twin's, of three requests."""
    arrival_s, first_s, finish_s = [0.0, 1.0, 2.0], [0.1, 1.1, 2.1], [1.0, 2.0, 3.0]
    known = {"sent": arrival_s, "scheduled": arrival_s, "kind": "measured"}
    save_run(make_run(arrival_s, first_s, finish_s, **known), folder / "measured.json")  # type: ignore[arg-type]
    save_run(make_run(arrival_s, first_s, finish_s), folder / "simulated.json")


def tables(folder: Path) -> None:
    """Measured tables as those that lie beside the repository: of known servers, with noise."""
    (folder / "DATA").mkdir()
    truths = [known_server(llm) for llm in (LLAMA, QWEN)]
    write_noisy_tables(folder / "DATA", truths, [(0.05, "8"), (0.1, "8 16"), (0.2, "16"), (0.5, "16")], 0.01)


def files_of_lengths(folder: Path) -> None:
    """Files that the page names and does not show: a trace of Azure's, a histogram."""
    (folder / "azure_llm_2023_conv.csv").write_text(AZURE)
    (folder / "lengths.csv").write_text("lo,hi,count\n1,20,5\n")


def public_tables(folder: Path) -> None:
    """A row of each table that others published."""
    (folder / "DATA").mkdir()
    for name, row in (("serving.csv", SERVING), ("decode_steps.csv", STEP), ("kv_capacity.csv", KV)):
        written(folder / "DATA", name, row)


def a_day(folder: Path) -> None:
    """A day of a gateway's log, busiest in the afternoon, and the adapters that were asked for, as PEFT writes them."""
    curve = {"kind": "diurnal", "amplitude": 0.8, "peak_s": 15 * 3600}
    group = {"name": "tenant", "count": 12, "total_rate": 0.6, "popularity": "zipf", "arrivals": curve}
    workload = draw(parse_spec({"window_s": 86_400, "groups": [group]}), 1)
    as_log(workload, folder / "day.jsonl")
    for i, name in enumerate(workload.adapters.name):
        (folder / "adapters" / name).mkdir(parents=True)
        base = "meta-llama/Llama-3.1-8B-Instruct"
        config = {"peft_type": "LORA", "r": 8 << i % 2, "base_model_name_or_path": base, "target_modules": "all-linear"}
        (folder / "adapters" / name / "adapter_config.json").write_text(json.dumps(config))


def own_llm(folder: Path) -> None:
    make_llm(folder / "models" / "my-llm", NewLlm())


GIVEN: dict[str, Callable[[Path], None]] = {
    "docs/reference/bench.md": traffic,
    "docs/reference/report.md": two_runs,
    "docs/reference/llms.md": own_llm,
    "docs/howto/traffic.md": a_day,
    "docs/reference/workload.md": files_of_lengths,
    "docs/reference/validate.md": tables,
    "docs/reference/calibrate.md": tables,
    "docs/findings/accuracy.md": tables,
    "docs/findings/learn.md": tables,
    "docs/findings/profiles.md": public_tables,
}
"""What a page takes for granted. Pages of how-to take nothing but a log of the reader's: there they begin."""


def serve_metrics(stack: ExitStack, folder: Path) -> str:
    server = stack.enter_context(metrics_server())
    Gauge("vllm:num_requests_running", "Running.", registry=server.registry).set(3)
    return server.url


SERVERS: dict[str, Serve] = {"docs/reference/telemetry.md": serve_metrics}

EVERY_DAY = {"README.md", "docs/howto/memory.md"}
"""Pages that run every day: what newcomers try first, with every kind of block. The others are read word by word."""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.timeout(3600 if SLOW else 900)
def test_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORATWIN_PROFILES", str(tmp_path / "profiles"))
    needs_tables = GIVEN.get(name) is tables
    if name in GIVEN and (SLOW or not needs_tables):
        GIVEN[name](tmp_path)
    with ExitStack() as stack:
        page = Page(tmp_path, stack, SERVERS.get(name, serve_adapters))
        for block in blocks_of(PAGES[name]):
            if SLOW or name in EVERY_DAY or block.name:
                page.run(block)
            else:
                check(block)


def test_every_block_has_a_language_and_every_mark_a_block_and_a_reason() -> None:
    for name, page in PAGES.items():
        found = blocks_of(page)
        text = page.read_text(encoding="utf-8")
        assert 2 * len(found) == sum(line.startswith("```") for line in text.splitlines()), name
        assert marks(text) == sum(bool(block.mark) for block in found), f"{name}: a mark that is above no block"
        for block in found:
            assert block.language in LANGUAGES, block.place
            assert not block.mark or len(block.reason.split()) >= 2, f"{block.place}: why is it not run?"


def test_what_runs_nowhere_is_little() -> None:
    """One more is one more that nothing tries: a number to argue about."""
    found = [block for page in PAGES.values() for block in blocks_of(page)]
    assert sum(block.mark == "not run" for block in found) <= 44
    assert sum(block.language in ("bash", "python") and block.mark != "not run" for block in found) >= 50


EXAMPLE = """
<!-- not run: needs a GPU -->
```bash
loratwin plan w.yaml --profile p
```
```yaml w.yaml
groups: []
```
"""


def test_blocks_are_read() -> None:
    first, second = read_blocks(EXAMPLE, "page.md")
    assert (first.language, first.mark, first.reason, first.place) == ("bash", "not run", "needs a GPU", "page.md:3")
    assert (second.name, second.code, second.mark) == ("w.yaml", "groups: []\n", "")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("bash", "loratwin plan w.yaml --profile p --slots-of-gold 3\n"),
        ("bash", "loratwin plam\n"),
        ("bash", "if true\n"),
        ("python", "import loratwin\nloratwin.find_plan(1, 2, sloo=3)\n"),
        ("python", "from loratwin import no_such_name\n"),
        ("python", "f(\n"),
        ("yaml", "groups: [{name: a, cuont: 3}]\n"),
    ],
)
def test_what_nobody_could_run_is_seen(language: str, code: str) -> None:
    (block,) = read_blocks(f"```{language}\n{code}```\n", "page.md")
    with pytest.raises(Exception):  # noqa: B017
        check(block)
