"""Paths below /c/ as no client of ours would write them, byte for byte, against the service as a process."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.conftest import serving
from tests.images import file_of, photograph
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("hostile")
    with serving(write_tiny_model(folder / "1", codes=True), folder / "log") as client:
        yield client


@pytest.fixture(scope="module")
def code(service: httpx.Client) -> bytes:
    answer = service.post("/compress", files={"image": file_of(photograph(60, 40))})
    text: str = answer.json()["items"][0]["codes"][0]
    return text.encode()


def status_of(service: httpx.Client, target: bytes) -> int:
    """The status of the answer to a GET of these very bytes, read to its end."""
    with socket.create_connection((service.base_url.host, service.base_url.port or 0), timeout=30) as raw:
        raw.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: cars\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Traceback" not in body
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/c/CODE.png", 200),
        (b"http://elsewhere.example/c/CODE.png", 200),
        (b"/%63/CODE.png", 200),
        (b"/c/CODE%2Epng", 200),
        (b"/c/CODE.png?size=%31%36", 200),
        (b"/c/CODE.png?", 200),
        (b"/c/CODE.png?size=%zz", 422),
        (b"/c/CODE.png?size=16&size=17", 422),
        (b"/c/CODE.png?%00=1", 422),
        (b"/c/CODE.PNG", 404),
        (b"/C/CODE.png", 404),
        (b"/c/CODE.png/", 404),
        (b"/c//CODE.png", 404),
        (b"//c/CODE.png", 404),
        (b"/c/../c/CODE.png", 404),
        (b"/c/..%2fCODE.png", 404),
        (b"/c/%2e%2e/CODE.png", 404),
        (b"/c/", 404),
        (b"/c", 404),
        (b"/c/.png", 404),
        (b"/c/%zz.png", 400),
        (b"/c/%.png", 400),
        (b"/c/%ff%fe.png", 400),
        (b"/c/%00.png", 400),
        (b"/c/CODE%00.png", 400),
        (b"/c/CODE%20.png", 400),
        (b"/c/CODE%0d%0aX-Evil:%201.png", 400),
        (b"/c/CODE=.png", 400),
        (b"/c/CODE;a=b.png", 400),
        (b"/c/%F0%9F%9A%97.png", 400),
        (b"/c/%F0%9F%9A%97", 400),
        (b"/c/%3Cscript%3E", 400),
        (b"/c/" + b"A" * 5000, 400),
        (b"/c/" + b"%41" * 10_000 + b".webp", 400),
        (b"/c/" + b"../" * 3000 + b"x.png", 404),
    ],
)
def test_every_path_has_its_answer(service: httpx.Client, code: bytes, target: bytes, status: int) -> None:
    assert status_of(service, target.replace(b"CODE", code)) == status


def test_a_path_longer_than_headers_may_be_is_refused(service: httpx.Client) -> None:
    assert status_of(service, b"/c/" + b"A" * 300_000) in (400, 414, 431)
    assert service.get("/health/ready").status_code == 200
