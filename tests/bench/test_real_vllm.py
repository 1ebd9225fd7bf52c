"""With a real vLLM on CPU: 16 adapters on 4 slots; the server's counters, the client and the step log agree exactly."""

import os

import numpy as np
import pytest

from loratwin.launch import start_server
from loratwin.metrics import client_figures
from loratwin.probe import read_steps, server_arguments
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, from_workload, lora_modules_args, make_adapters, make_llm
from loratwin.telemetry import canonical, counters
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

from .servers import bench

pytestmark = needs_vllm

WINDOW_S = float(os.environ.get("LORATWIN_REAL_WINDOW_S", "120"))
DRAINED_S = 20.0  # no arrivals in the last part: all is answered when the window ends, and nothing is cut off
ARGS = (
    "--model llm --served-model-name tiny --dtype bfloat16 --max-model-len 1024 --enforce-eager --max-num-seqs 32 "
    "--enable-lora --max-loras 4 --max-cpu-loras 16 --max-lora-rank 16"
)


def trace(folder, window_s):
    """Arrivals of 16 adapters, popular and rare ones, as a file: 4 requests/s, none in the last seconds."""
    rng = np.random.default_rng(7)
    num = int(4 * (window_s - DRAINED_S))
    arrival = np.sort(rng.uniform(0, window_s - DRAINED_S, num))
    weights = 1 / np.arange(1, 17)
    adapter = rng.choice(16, num, p=weights / weights.sum())
    prompt, output = rng.integers(16, 120, num), rng.integers(2, 48, num)
    rows = [f"{t:.4f},t-{a:02d},{p},{o}" for t, a, p, o in zip(arrival, adapter, prompt, output, strict=True)]
    (folder / "trace.csv").write_text("\n".join(["arrival_s,adapter,prompt_tokens,output_tokens", *rows]))
    path = folder / "workload.yaml"
    names = ", ".join(f"t-{i:02d}" for i in range(16))
    path.write_text(
        f"window_s: {window_s}\ngroups:\n  - {{name: t, count: 16, names: [{names}], ranks: [8, 16], "
        "arrivals: {kind: replay, path: trace.csv}}\n"
    )
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny LLM with 16 adapters, and their traffic."""
    from loratwin.workload import load_spec

    folder = tmp_path_factory.mktemp("real")
    llm = make_llm(folder / "llm", NewLlm())
    make_adapters(folder / "adapters", llm, from_workload(load_spec(trace(folder, WINDOW_S))))
    return folder


@pytest.fixture(scope="module")
def measured(made):
    """The record, the server's own counts of what the benchmark added, and the steps of its window."""
    log = made / "steps"
    arguments, environment = server_arguments(log)
    words = [*ARGS.replace("--model llm", f"--model {made / 'llm'}").split(), *lora_modules_args(made / "adapters")]
    with (
        one_at_a_time(),
        start_server(
            "vllm", [*words, *arguments], log_folder=made, command=server_command(),
            env={**server_env(), **environment},
        ) as server,
    ):  # fmt: skip
        before = counters(server.url)
        done = bench("workload.yaml", "--url", server.url, "-o", "run.json", folder=made)
        assert done.returncode == 0, done.stderr
        after = counters(server.url)
        config = server.config
    return load_run(made / "run.json"), before, after, log, config


PHASES = ((1, 1), (16, 2), *((8, 1),) * 16)
"""Prompt and output tokens of the question after which vLLM tells its slots, of the first one of the load client, and
of asking for each adapter once."""


def phases_of(run):
    """Requests, prompt and output tokens before the window; the warm-up takes the lengths of the first 16 requests."""
    first = np.argsort(run.requests.scheduled_s, kind="stable")[:16]
    prompt = sum(p for p, _ in PHASES) + int(run.requests.prompt_tokens[first].sum())
    output = sum(o for _, o in PHASES) + int(run.requests.asked_tokens[first].sum())
    return len(PHASES) + 16, prompt, output


def test_the_servers_counters_agree_exactly(measured):
    run, before, after, _, _ = measured
    figures = client_figures(run)
    assert figures.finished == figures.sent == len(run.requests) and not run.failures
    requests, prompt, output = phases_of(run)
    assert after.generation_tokens - before.generation_tokens == output + run.requests.received_tokens.sum()
    assert after.prompt_tokens - before.prompt_tokens == prompt + run.requests.prompt_tokens.sum()
    finished = sum(after.requests_finished.values()) - sum((before.requests_finished or {}).values())
    assert finished == requests + len(run.requests)


def test_lengths_are_what_was_asked_for(measured):
    run, *_ = measured
    np.testing.assert_array_equal(run.requests.received_tokens, run.requests.asked_tokens)


def test_the_step_log_agrees_with_the_client(measured):
    """Every prompt token computed in the window, at most 4 adapters in a step, swap-ins for 16 adapters on 4 slots."""
    run, _, _, log, config = measured
    steps = read_steps(log)
    requests, prompt, output = phases_of(run)
    assert steps.prefill_tokens.sum() == prompt + run.requests.prompt_tokens.sum()
    # a request's first token comes with its prompt's last chunk, the others one in a step
    emitted = output - requests + (run.requests.received_tokens - 1).sum()
    assert steps.decode_requests.sum() == emitted
    assert steps.distinct_adapters.max() <= config.max_loras == 4
    assert steps.swap_ins.sum() > 16


def test_the_servers_series_are_in_the_record(measured):
    run, *_ = measured
    (samples,) = (source for source in run.samples if source.source == "server")
    series = canonical(samples)
    assert len(samples.time_s) >= WINDOW_S - 5
    assert np.nanmax(series["running"].values) >= 1 and np.nanmin(series["generation_tokens"].values) > 0
    told = series["generation_tokens"].values
    assert told[-1] - told[0] <= run.requests.received_tokens.sum()


def test_two_replicas_share_the_load_evenly(made):
    """Started by the benchmark one after the other; each has its own record with its own series and steps."""
    (made / "short").mkdir()
    trace(made / "short", 40.0)
    with one_at_a_time():
        done = bench(
            "short/workload.yaml", "--launch", "vllm", "--server-command", " ".join(server_command()),
            "--server-args", ARGS, "--lora-folder", "adapters", "--replicas", 2, "--steps", "-o", "two.json",
            folder=made, env={**os.environ, **server_env()},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    both, one, other = (load_run(made / f"{name}.json") for name in ("two", "two-replica-0", "two-replica-1"))
    assert abs(len(one.requests) - len(other.requests)) <= 1
    assert len(one.requests) + len(other.requests) == len(both.requests) == client_figures(both).sent
    for each in (one, other):
        assert each.steps is not None and each.kv_tokens
        assert each.steps.prefill_tokens.sum() == each.requests.prompt_tokens.sum()
        assert np.nanmax(canonical(each.samples[0])["running"].values) >= 1  # NaN: a scrape missed by a busy server
    assert (made / "two-steps-0.parquet").exists() and (made / "two-steps-1.parquet").exists()
