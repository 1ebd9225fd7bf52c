"""A stand-in for a server: answers like vLLM or SGLang, spawns processes, dies or hangs as asked."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METRICS = (
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="%d"} 1.0\n'
)
SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = pages().get(self.path)
        self._answer(404 if text is None else 200, text or "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, text = loaded(self.path, body, self.headers.get("Authorization"))
        self._answer(status, text)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def pages() -> dict[str, str]:
    share = float(options.gpu_memory_utilization or options.mem_fraction_static or 1)
    if options.like == "sglang":
        info = {"version": "0.5.2", "max_total_num_tokens": 777, "max_running_requests": 48, "page_size": 1}
        return {"/health": "", "/get_server_info": json.dumps(info), "/v1/models": '{"data": [{"max_model_len": 99}]}'}
    return {
        "/health": "",
        "/version": json.dumps({"version": options.version}),
        "/v1/models": '{"data": [{"id": "x", "max_model_len": 4096}]}',
        "/metrics": "" if options.no_metrics else METRICS % round(1000 * share),
    }


def loaded(path: str, body: dict[str, str], key: str | None) -> tuple[int, str]:
    """As vLLM answers to /v1/load_lora_adapter; SGLang has another path."""
    right = "/load_lora_adapter" if options.like == "sglang" else "/v1/load_lora_adapter"
    if path != right or options.no_loading:
        return 404, '{"detail": "Not Found"}'
    if os.environ.get("VLLM_API_KEY") and key != f"Bearer {os.environ['VLLM_API_KEY']}":
        return 401, '{"error": "Unauthorized"}'
    name = body["lora_name"]
    if name in names:
        return 400, json.dumps({"error": {"message": f"The lora adapter '{name}' has already been loaded."}})
    if not os.path.isdir(body["lora_path"]):
        return 404, json.dumps({"error": {"message": f"Loading lora {name} failed: No adapter found for {name}"}})
    names.append(name)
    print("loaded", name, flush=True)
    return 200, f"Success: LoRA adapter '{name}' added successfully."


def spawn() -> None:
    """A child, one with a session of its own that hears no SIGTERM, and one whose parent is gone."""
    python = [sys.executable, "-I", "-S", "-c"]
    subprocess.Popen([*python, SLEEP])
    subprocess.Popen([*python, DEAF], start_new_session=True)
    orphan = f"import os, subprocess\nsubprocess.Popen({[*python, SLEEP]!r}, start_new_session=True)\nos._exit(0)"
    subprocess.run([*python, orphan])


parser = argparse.ArgumentParser()
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--like", default="vllm")
parser.add_argument("--version", default="0.32.0")
parser.add_argument("--gpu-memory-utilization")
parser.add_argument("--mem-fraction-static")
parser.add_argument("--die", nargs="*")
parser.add_argument("--die-above", type=float, help="when it is given more memory than this")
for flag in ("--no-metrics", "--no-loading", "--spawn", "--deaf", "--hang"):
    parser.add_argument(flag, action="store_true")
options, others = parser.parse_known_args()
names: list[str] = []

print("started with", " ".join(others), flush=True)
print("(EngineCore pid=7) INFO 11-21 12:34:29 [kv_cache_utils.py:2327] GPU KV cache size: 54,321 tokens", flush=True)
if options.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if options.spawn:
    spawn()
if options.die or (options.die_above and float(options.gpu_memory_utilization) > options.die_above):
    sys.exit("\n".join(options.die or ["ValueError: too much"]))
if options.hang:
    time.sleep(600)
ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
