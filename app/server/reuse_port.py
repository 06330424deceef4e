"""ReusePortSocket: one address for several workers, of which each listens for itself (SO_REUSEPORT).

Of a socket that workers share, the first to wake takes all connections that wait: a burst of them lands in
one worker and stays there, as connections are kept alive. With a socket each, the kernel deals them out.
"""

import socket
from typing import Any

Address = tuple[Any, ...]


class ReusePortSocket(socket.socket):
    """A bound socket that does not listen. Passed to another process it is a new one of the same address."""

    @classmethod
    def take_over(cls, bound: socket.socket) -> "ReusePortSocket":
        """Close a socket that was bound in the ordinary way, which fails where anyone has the address, and
        keep its address."""
        family, address = bound.family, bound.getsockname()
        bound.close()
        return _open(family, address)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self.family, self.getsockname())


def _open(family: int, address: Address) -> ReusePortSocket:
    shared = ReusePortSocket(family, socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared
