"""A socket of its own for each worker, all of one address."""

import pickle
import socket
from contextlib import closing

import pytest

from app.server.reuse_port import ReusePortSocket


def bound() -> socket.socket:
    plain = socket.socket()
    plain.bind(("127.0.0.1", 0))
    return plain


def test_a_copy_listens_at_the_same_address_and_gets_its_share() -> None:
    with closing(ReusePortSocket.take_over(bound())) as kept:
        copies = [pickle.loads(pickle.dumps(kept)) for _ in range(2)]
        address = kept.getsockname()
        assert {copy.getsockname() for copy in copies} == {address}
        assert len({kept.fileno(), *(copy.fileno() for copy in copies)}) == 3
        for copy in copies:
            copy.listen()
            copy.setblocking(False)
        clients = [socket.create_connection(address) for _ in range(64)]
        counts = [accepted(copy) for copy in copies]
        for end in (*clients, *copies):
            end.close()
    assert sum(counts) == 64
    assert min(counts) > 8, "by chance once in a billion times"


def test_an_address_that_someone_listens_at_is_not_shared_by_accident() -> None:
    with closing(ReusePortSocket.take_over(bound())) as kept:
        copy = pickle.loads(pickle.dumps(kept))
        copy.listen()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(kept.getsockname())
        copy.close()


def accepted(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1
