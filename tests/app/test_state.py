"""What an app holds, and when it is there."""

import pytest

from app.errors import NotReady
from app.server.metrics import Metrics
from app.settings import Settings
from app.state import Service


def service() -> Service:
    return Service(Settings(), Metrics(frozenset(), 1.0, 1))


def test_nothing_is_there_before_the_start() -> None:
    with pytest.raises(NotReady, match="starting"):
        service().parts()


def test_nothing_is_given_while_draining() -> None:
    draining = service()
    draining.draining = True
    with pytest.raises(NotReady, match="shutting down"):
        draining.parts()
