"""Every answer of a server compared with the model's own, before anything is timed."""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.performance.bench.inputs import Exchange, Workload, WrongAnswer
from tests.performance.bench.servers import Server

AT_ONCE = 8
"""Requests in flight, so that batches form and a row that lands in another's answer is seen."""
ROUNDS = 2


def check_server(server: Server, port: int, workload: Workload) -> int:
    """Send each request of a workload twice, several at once; gives the number of answers that were right.

    Raises:
        WrongAnswer: one was not.
    """
    path = server.path(workload.path)
    headers = {"Content-Type": workload.content_type, **server.headers}

    def ask(exchange: Exchange) -> None:
        status, answer, body = post(port, path, headers, exchange.body)
        if status != 200:
            raise WrongAnswer(f"{server.name} {path}: status {status}: {body[:300]!r}")
        try:
            exchange.check(server.payload(answer, body))
        except (WrongAnswer, ValueError, KeyError, TypeError) as error:
            raise WrongAnswer(f"{server.name} {path}: {error}") from error

    exchanges = list(workload.exchanges) * ROUNDS
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in threads.map(ask, exchanges):
            pass
    return len(exchanges)


def post(
    port: int, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()
