"""Plain HTTP for tests: what was sent and what came back, unread.

podium's own client is not used here: the raw shapes of requests and answers are what is under test.
"""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

#: Far above the longest long poll (5 s) and the slowest first answer of a cold server (about 3 s).
READ_TIMEOUT_S = 60


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    content_type: str | None
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error answer."""
        return str(self.json["message"])


class Http:
    """Calls under one base URL; every call has a connection of its own, so threads may share the object."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.netloc
        self._base = parts.path

    def call(
        self, method: str, path: str, body: object = None, query: dict[str, Any] | None = None, content_type: str = ""
    ) -> Answer:
        """Send one request: a body of bytes goes as it is, None is no body, anything else goes as JSON."""
        target = self._base + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type or "application/json"} if data is not None else {}
        connection = http.client.HTTPConnection(self._address, timeout=READ_TIMEOUT_S)
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheader("Content-Type"), response.read())
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Answer:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: object = None, **query: Any) -> Answer:
        return self.call("POST", path, body, query)

    def put(self, path: str, body: object = None, **query: Any) -> Answer:
        return self.call("PUT", path, body, query)

    def delete(self, path: str, **query: Any) -> Answer:
        return self.call("DELETE", path, query=query)
