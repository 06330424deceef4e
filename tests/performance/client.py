"""A small HTTP client that costs less than the service it loads: one connection, bytes in, bytes out."""

import asyncio
import time
from dataclasses import dataclass

from tests.images import file_of, photograph


@dataclass(frozen=True)
class Answer:
    """One answer and how long it took."""

    status: int
    seconds: float
    headers: dict[str, str]


class Connection:
    """A kept connection to the service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send the bytes of a request and read its whole answer; opens the connection where needed.

        Raises:
            ConnectionError: there is no answer.
            asyncio.IncompleteReadError: it was broken off.
        """
        started = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            raise ConnectionError("closed instead of answered") from None
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), time.perf_counter() - started, headers)

    def close(self) -> None:
        """Close the connection, whatever is on its way."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request(method: str, path: str, body: bytes = b"", media_type: str = "image/jpeg") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: service\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(files: list[bytes]) -> tuple[bytes, str]:
    """Pictures as a multipart body, and its media type."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return b"".join(head + file + b"\r\n" for file in files) + b"--b--\r\n", "multipart/form-data; boundary=b"


def picture(kind: str = "JPEG", edge: int = 256, seed: int = 0) -> bytes:
    """A picture file."""
    return file_of(photograph(edge, edge * 2 // 3, seed), kind)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies; 0 where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
