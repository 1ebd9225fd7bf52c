"""Stand-ins for OpenAI-compatible servers that are no vLLM: what they take of a request, and the form of their answers.

By their sources: transformers 5.19 (`cli/serving/completion.py`, also as it answered), llama.cpp
(`tools/server/server-task.cpp`), Ollama (`openai/openai.go`, `middleware/openai.go`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST = 5
"""Tokens after which an LLM that is not told to go on has said all."""


class OtherServer(BaseHTTPRequestHandler):
    """What all have in common; subclasses say what is refused."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]

    def refusal(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        """Status and document of an error; None: it is taken."""
        return None

    def goes_on(self, body: dict[str, Any]) -> bool:
        return False

    def last_events(self, prompt: int, output: int, body: dict[str, Any]) -> list[Any]:
        """Events after those with text."""
        raise NotImplementedError

    def models(self) -> tuple[int, Any]:
        return 200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]}

    def do_GET(self) -> None:
        status, document = self.models() if self.path == "/v1/models" else (404, {"error": "not found"})
        self.answer(status, json.dumps(document), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        refused = self.refusal(body)
        if refused is not None:
            self.answer(refused[0], json.dumps(refused[1]), "application/json")
            return
        prompt = body["prompt"]
        num_prompt = len(prompt if isinstance(prompt, list) else prompt.split())
        output = body["max_tokens"] if self.goes_on(body) else min(body["max_tokens"], MOST)
        if not body.get("stream"):
            usage = {"prompt_tokens": num_prompt, "completion_tokens": output}
            self.answer(200, json.dumps({"choices": [{"text": " a"}], "usage": usage}), "application/json")
            return
        events = [{"choices": [{"index": 0, "text": " a", "finish_reason": None}]} for _ in range(output)]
        said = [*events, *self.last_events(num_prompt, output, body)]
        text = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in said)
        self.answer(200, text, "text/event-stream")

    def answer(self, status: int, text: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def _usage(prompt: int, output: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


class Transformers(OtherServer):
    """Refuses fields that OpenAI's schema lacks, and token ids; the last event has the reason and the count."""

    known = frozenset({"model", "prompt", "max_tokens", "stream", "stream_options", "temperature", "seed"})

    def models(self) -> tuple[int, Any]:
        return 500, "no cache of models"

    def refusal(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        if more := set(body) - self.known:
            return 422, {"detail": f"Unexpected fields in the request: {more}"}
        return None if isinstance(body["prompt"], str) else (400, {"detail": "prompt must be a string."})

    def last_events(self, prompt: int, output: int, body: dict[str, Any]) -> list[Any]:
        choice = {"finish_reason": "length", "index": 0, "text": ""}
        return [{"choices": [choice], "usage": _usage(prompt, output)}]


class Ollama(OtherServer):
    """Takes no token ids (Go's JSON refuses them), and passes over fields that it does not know."""

    def refusal(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        said = "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"
        error = {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": None}}
        return None if isinstance(body["prompt"], str) else (400, error)

    def last_events(self, prompt: int, output: int, body: dict[str, Any]) -> list[Any]:
        end: list[Any] = [{"choices": [{"text": "", "index": 0, "finish_reason": "stop"}]}]
        if (body.get("stream_options") or {}).get("include_usage"):
            end.append({"choices": [], "usage": _usage(prompt, output)})
        return [*end, "[DONE]"]


class LlamaCpp(OtherServer):
    """Takes token ids and `ignore_eos`; refuses nothing, and adds timings."""

    def goes_on(self, body: dict[str, Any]) -> bool:
        return bool(body.get("ignore_eos"))

    def models(self) -> tuple[int, Any]:
        entry = {"id": "tiny", "object": "model", "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048}}
        return 200, {"models": [{"name": "tiny", "model": "tiny"}], "object": "list", "data": [entry]}

    def last_events(self, prompt: int, output: int, body: dict[str, Any]) -> list[Any]:
        timings = {"prompt_n": prompt, "predicted_n": output}
        end = [{"choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}], "timings": timings}]
        counted = {"choices": [], "usage": _usage(prompt, output), "timings": timings}
        return [*end, counted, "[DONE]"]


@contextmanager
def other_server(kind: type[OtherServer]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A running one: its address, and the bodies of what it was asked."""
    asked: list[dict[str, Any]] = []
    handler = type(kind.__name__, (kind,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
