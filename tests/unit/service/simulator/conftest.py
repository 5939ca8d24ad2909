"""A client below HTTP: what exactly came over the socket, and how it ended."""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

PATIENCE_S = 5.0


@dataclass(frozen=True)
class Seen:
    """All bytes that came, and how it ended: `fin`, `rst`, or `open` when `wait_s` passed without an end."""

    data: bytes
    ended: str

    @property
    def head(self):
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def status(self):
        return int(self.data.split(b" ", 2)[1])

    @property
    def body(self):
        """The body; chunks put together, whether or not the last one came."""
        head, _, rest = self.data.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return rest
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size or b"0", 16)]
            rest = rest[int(size or b"0", 16) + 2 :]
        return body

    @property
    def events(self):
        """The data of each server-sent event, for streams with LF line ends."""
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]

    @property
    def text(self):
        """The content of all chunks, joined."""
        chunks = [json.loads(event) for event in self.events if event != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])


def chat_request(base_url, body, headers=()):
    """The bytes of a chat request."""
    parts = urlsplit(base_url)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"POST {parts.path}/chat/completions HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(raw)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def talk(base_url, request, wait_s=PATIENCE_S, close_after=None):
    """Send bytes and read until the end, until `wait_s` is over, or until `close_after` bytes came."""
    parts = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    data = b""
    ended = "open"
    try:
        writer.write(request)
        async with asyncio.timeout(wait_s):
            while close_after is None or len(data) < close_after:
                piece = await reader.read(65536)
                if not piece:
                    ended = "fin"
                    break
                data += piece
    except TimeoutError:
        pass
    except ConnectionError:
        ended = "rst"
    finally:
        writer.transport.abort()
    return Seen(data, ended)


@pytest.fixture
def ask():
    """A chat body, unless changed: one short English question, not streamed."""

    def body(**changes):
        return {"model": "m1", "messages": [{"role": "user", "content": "What is the capital of France?"}], **changes}

    return body


async def wait_for(condition):
    """Wait until a condition holds; a test that waits in vain fails here, with the condition's name in the trace."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def post():
    """The function that makes the bytes of a chat request."""
    return chat_request


@pytest.fixture
def exchange():
    """The function that sends bytes and reports what came back."""
    return talk


@pytest.fixture
def eventually():
    """The function that waits for a condition."""
    return wait_for
