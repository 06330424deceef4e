"""Slow, silent and greedy clients, over real sockets against a service in a process of its own."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.performance.client import form, picture, request
from tests.performance.service import Running, running

MAX_CONNECTIONS = 12
LIMIT = 30.0
"""Seconds after which a test gives up waiting."""
JPEG = picture()


@pytest.fixture(scope="module")
def service(model_folder: Path) -> Iterator[Running]:
    with running(
        model_folder,
        header_timeout=1,
        body_timeout=1,
        send_timeout=1,
        max_connections=MAX_CONNECTIONS,
        log_level="warning",
    ) as service:
        yield service
        assert answer_to(service, request("GET", "/health/ready"))[0] == 200


def connect(service: Running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer; status 0 where the connection was closed instead."""
    return read_next(connection.makefile("rb"))


def read_next(stream: BinaryIO) -> tuple[int, dict[str, str], bytes]:
    """The same from a stream, which has the answers after it too."""
    line = stream.readline()
    if not line:
        return 0, {}, b""
    headers = {}
    while (field := stream.readline().strip()) != b"":
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return int(line.split()[1]), headers, stream.read(int(headers.get("content-length", 0)))


def answer_to(service: Running, content: bytes) -> tuple[int, dict[str, str], bytes]:
    with connect(service) as connection:
        connection.sendall(content)
        return read_answer(connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes, sooner or later."""
    try:
        while connection.recv(2**16):
            pass
    except ConnectionError:
        return True
    return True


def is_cut_off(connection: socket.socket, drop: bytes) -> bool:
    """Whether a client that sends a drop from time to time is cut off in the end."""
    end = time.monotonic() + LIMIT
    try:
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(0.05)
    except ConnectionError:
        return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def check_problem(answer: tuple[int, dict[str, str], bytes], status: int) -> None:
    found, headers, body = answer
    assert found == status, answer
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == status
    assert json.loads(body)["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_connection_whose_headers_do_not_come_is_closed(service: Running, sent: bytes) -> None:
    with connect(service) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_headers_that_trickle_in_after_a_good_request_are_cut_off(service: Running) -> None:
    with connect(service) as connection:
        connection.sendall(request("GET", "/health/live"))
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert is_cut_off(connection, b"a: b\r\n")


def test_a_connection_takes_one_request_after_the_other(service: Running) -> None:
    with connect(service) as connection:
        for _ in range(3):
            connection.sendall(request("POST", "/encode", JPEG))
            assert read_answer(connection)[0] == 200


def test_headers_without_end_are_refused(service: Running) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    for endless in (head + b"A: " + b"a" * 400_000, head + b"a: b\r\n" * 100_000, b"GET /" + b"a" * 400_000):
        with connect(service) as connection:
            connection.sendall(endless)
            status, headers, _ = read_answer(connection)
            assert status == 431
            assert headers["connection"] == "close"


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /encode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_too(service: Running, content: bytes) -> None:
    with connect(service) as connection:
        connection.sendall(content)
        answer = read_answer(connection)
        assert answer[0] in (400, 404)
        if answer[0] == 400:
            check_problem(answer, 400)


def test_a_body_that_stops_half_way_is_refused(service: Running) -> None:
    with connect(service) as connection:
        connection.sendall(request("POST", "/encode", JPEG)[:-100])
        check_problem(read_answer(connection), 400)
        assert is_closed(connection)


@pytest.mark.parametrize("sent", [b"", b"5\r\nabc", b"5\r\nabcde\r\n"])
def test_chunks_that_stop_half_way_are_refused(service: Running, sent: bytes) -> None:
    head = (
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with connect(service) as connection:
        connection.sendall(head + sent)
        check_problem(read_answer(connection), 400)


def test_chunks_of_one_byte_are_a_body(service: Running) -> None:
    head = (
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in JPEG)
    assert answer_to(service, head + chunks + b"0\r\n\r\n")[0] == 200


def test_trailers_without_end_are_refused(service: Running) -> None:
    head = (
        b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with connect(service) as connection:
        connection.sendall(head + b"0\r\n" + b"a: b\r\n" * 100_000)
        assert read_answer(connection)[0] in (400, 431)
        assert is_closed(connection)


def test_a_body_that_nobody_wants_does_not_keep_the_connection(service: Running) -> None:
    """The answer comes before the body has; what still trickles in does not keep the connection."""
    with connect(service) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        check_problem(read_answer(connection), 404)
        assert is_cut_off(connection, b"a")


def test_an_answer_that_nobody_takes_is_given_up(service: Running) -> None:
    """Many large answers are asked for at once and none is read."""
    before = service.usage().descriptors
    connection = connect(service)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(request("GET", "/sample?count=6&size=2048&temperature=2") * 4)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: service.usage().descriptors > before)
    wait_until(lambda: service.usage().descriptors == before)
    connection.close()


def test_idle_connections_make_room(service: Running) -> None:
    opened = [connect(service) for _ in range(4 * MAX_CONNECTIONS)]
    assert answer_to(service, request("POST", "/encode", *form([JPEG])))[0] == 200
    assert service.usage().descriptors < MAX_CONNECTIONS + 40
    assert is_closed(opened[0])
    for connection in opened:
        connection.close()


def test_busy_connections_are_not_closed_for_new_ones(service: Running) -> None:
    head = b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    busy = [connect(service) for _ in range(MAX_CONNECTIONS)]
    for connection in busy:
        connection.sendall(head % len(JPEG))
    answers = []
    for _ in range(3):
        with connect(service) as late:
            answers.append(read_answer(late))
    for connection in busy:
        connection.sendall(JPEG)
        assert read_answer(connection)[0] == 200
        connection.close()
    for answer in answers:
        check_problem(answer, 503)


def test_lost_clients_leave_nothing_behind(service: Running) -> None:
    before = service.usage().descriptors
    for _ in range(20):
        with connect(service) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request("POST", "/reconstruct", *form([JPEG] * 8)))
    wait_until(lambda: service.usage().descriptors <= before)
    assert answer_to(service, request("POST", "/encode", JPEG))[0] == 200


OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "unknown": b"Upgrade: something/7\r\nConnection: keep-alive, Upgrade\r\n",
}
SAMPLE = b'{"count": 2, "seed": 7}'
FOLLOWING = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"


def offering(offer: bytes, framing: bytes, body: bytes) -> bytes:
    head = b"POST /sample?format=json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head + offer + framing + b"\r\n" + body


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("sending", ["one packet", "two packets", "byte by byte", "chunked"])
def test_an_offer_to_upgrade_does_not_end_the_body(service: Running, offer: str, sending: str) -> None:
    if sending == "chunked":
        body = b"a\r\n" + SAMPLE[:10] + b"\r\n%x\r\n" % len(SAMPLE[10:]) + SAMPLE[10:] + b"\r\n0\r\n\r\n"
        whole = offering(OFFERS[offer], b"Transfer-Encoding: chunked\r\n", body)
    else:
        whole = offering(OFFERS[offer], b"Content-Length: %d\r\n" % len(SAMPLE), SAMPLE)
    with connect(service) as connection:
        answers = connection.makefile("rb")
        if sending == "two packets":  # the second when the service says that it has read the first
            head, _, body = whole.partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert [answers.readline(), answers.readline()] == [b"HTTP/1.1 100 Continue\r\n", b"\r\n"]
            connection.sendall(body + FOLLOWING)
        elif sending == "byte by byte":
            for place in range(len(whole)):
                connection.sendall(whole[place : place + 1])
            connection.sendall(FOLLOWING)
        else:
            connection.sendall(whole + FOLLOWING)
        status, _, content = read_next(answers)
        answer = json.loads(content)
        assert (status, answer["seed"], len(answer["images"])) == (200, 7, 2)
        status, _, content = read_next(answers)
        assert (status, json.loads(content)["latent_dim"]) == (200, len(answer["latents"][0]))


def test_many_offers_in_one_packet_are_all_served_in_their_order(service: Running) -> None:
    ask = b"GET /sample?format=json&seed=%d HTTP/1.1\r\nHost: x\r\n" + OFFERS["h2c"] + b"\r\n"
    with connect(service) as connection:
        connection.sendall(b"".join(ask % seed for seed in range(20)))
        answers = connection.makefile("rb")
        seeds = [json.loads(read_next(answers)[2])["seed"] for _ in range(20)]
    assert seeds == list(range(20))


def test_no_request_can_be_hidden_in_the_body_of_an_offer(service: Running) -> None:
    body = FOLLOWING
    with connect(service) as connection:
        framing = b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
        connection.sendall(offering(OFFERS["h2c"], framing, body))
        answers = connection.makefile("rb")
        assert [read_next(answers)[0] for _ in range(2)] == [400, 0]


def test_a_client_that_closes_its_side_after_the_request_gets_the_answer(service: Running) -> None:
    for _ in range(5):
        with connect(service) as connection:
            connection.sendall(request("POST", "/reconstruct", *form([JPEG] * 4)))
            connection.shutdown(socket.SHUT_WR)
            status, headers, content = read_answer(connection)
            assert (status, headers["content-type"]) == (200, "image/png")
            assert content.startswith(b"\x89PNG")
            assert connection.recv(1) == b""


def test_pipelined_requests_are_all_answered_after_the_client_closed_its_side(service: Running) -> None:
    with connect(service) as connection:
        connection.sendall(FOLLOWING * 3)
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("rb")
        assert [read_next(answers)[0] for _ in range(4)] == [200, 200, 200, 0]


def test_a_client_that_closes_its_side_within_the_request_is_let_go(service: Running) -> None:
    with connect(service) as connection:
        connection.sendall(request("POST", "/encode", *form([JPEG]))[:-9])
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)


def test_whoever_is_refused_can_read_why_however_much_it_sends(service: Running) -> None:
    endless = b"GET / HTTP/1.1\r\nX: " + b"x" * 400_000
    for _ in range(5):
        with connect(service) as connection:
            connection.sendall(endless)
            check_problem(read_answer(connection), 431)


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
def test_headers_may_be_as_large_as_is_promised_and_no_larger(
    service: Running, excess: int, status: int
) -> None:
    target, host = b"/model", b"x"
    used = len(target) + len(b"host: \r\n") + len(host) + len(b"filler: \r\n")
    filler = b"y" * (64 * 2**10 - used + excess)
    with connect(service) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nhost: %s\r\nfiller: %s\r\n\r\n" % (target, host, filler))
        assert read_answer(connection)[0] == status


def test_in_a_storm_of_connections_every_one_is_answered(service: Running) -> None:
    """Those that are closed to make room may have sent a request already."""
    ask = request("POST", "/encode", *form([JPEG]))
    opened = [connect(service) for _ in range(2 * MAX_CONNECTIONS)]
    for connection in opened:
        with suppress(ConnectionError):  # it has its answer already
            connection.sendall(ask)
    statuses = [read_answer(connection)[0] for connection in opened]
    for connection in opened:
        connection.close()
    assert set(statuses) == {200, 503}
