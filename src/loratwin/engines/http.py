"""Small questions to a server on this machine, with the standard library: no proxy, always with a time-out."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

NO_ANSWER = 0


class Answer(NamedTuple):
    """What came back."""

    status: int
    """HTTP status; 0: no answer, and the text says why."""
    text: str

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        """The text as JSON; None if it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def ask(url: str, body: Any = None, *, api_key: str | None = None, timeout_s: float = 5.0) -> Answer:
    """GET, or POST when there is a body; never raises for what the server does."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    request = urllib.request.Request(url, data, headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(NO_ANSWER, str(getattr(error, "reason", None) or error))
