"""The far end of a connection, for tests of what stands before it."""

from app.server.asgi import Message


async def no_more() -> Message:
    """Receives; to be given where nothing may be received."""
    raise AssertionError("nothing more is to be received")
