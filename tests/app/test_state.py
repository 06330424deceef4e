"""What an app holds, and when it is there."""

import pytest
from fastapi import FastAPI
from starlette.requests import Request

from app.errors import NotReady
from app.server.metrics import Metrics
from app.settings import Settings
from app.state import AppState, state_of, timings_of
from app.timings import Timings


def new_state() -> AppState:
    return AppState(Settings(), Metrics(frozenset(), 1.0, 1))


def test_nothing_is_there_before_the_start() -> None:
    with pytest.raises(NotReady, match="starting"):
        new_state().parts()


def test_it_is_calm_before_the_start() -> None:
    assert new_state().is_calm()


def test_nothing_is_given_while_draining() -> None:
    draining = new_state()
    draining.draining = True
    with pytest.raises(NotReady, match="shutting down"):
        draining.parts()


def test_a_request_finds_the_state_of_its_app_and_its_own_timings() -> None:
    app, timings = FastAPI(), Timings()
    app.state.app_state = new_state()
    request = Request({"type": "http", "app": app, "state": {"timings": timings}})
    assert state_of(request) is app.state.app_state
    assert timings_of(request) is timings
