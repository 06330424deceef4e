"""Older models: opened when they are needed, closed when others are, and never more than a few in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from app.codes.wire import tag_of
from app.errors import InferenceFailed, ModelFolderError, NotReady
from app.inference.older_models import MOST_OPEN, OlderModel, OlderModels
from app.inference.session import SessionSpec, decoder_graph, open_sessions
from app.model.manifest import read_model_folder
from tests.app.inference.test_vae import Observer
from tests.tiny_model import LATENT_DIM, write_tiny_model

LATENTS = np.random.RandomState(4).standard_normal((3, LATENT_DIM)).astype(np.float32)


class Watching(Observer):
    """Is told of older decoders alone."""

    def __init__(self) -> None:
        self.sizes = {"older-decoder": []}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Models 1 to 4 of the name, each with other weights."""
    return [
        write_tiny_model(tmp_path / str(version), seed=version, version=version, codes=True)
        for version in range(1, 5)
    ]


Older = Callable[..., OlderModels]


@pytest.fixture
async def older(folders: list[Path]) -> AsyncIterator[Older]:
    """older(*versions) are these, beside the served model 1."""
    made = []

    def make(*versions: int, observer: Observer | None = None) -> OlderModels:
        models = OlderModels(
            [folders[version - 1] for version in versions],
            read_model_folder(folders[0]).manifest,
            threads=1,
            max_queue_rows=64,
            queue_timeout=10.0,
            observer=observer or Watching(),
        )
        made.append(models)
        return models

    yield make
    for models in made:
        models.close()


def found(models: OlderModels, version: int) -> OlderModel:
    model = models.find(tag_of(version))
    assert model is not None
    return model


async def used(models: OlderModels, version: int) -> np.ndarray:
    """What a model draws of LATENTS, and is given back."""
    model = found(models, version)
    opened = await models.borrow(model)
    try:
        return await opened.decoder.decode(LATENTS)
    finally:
        models.give_back(model)


async def test_a_model_is_opened_when_it_is_needed_and_draws_as_itself(
    older: Older, folders: list[Path]
) -> None:
    models = older(2, 3)
    assert models.opened == {"tiny-vae/2": False, "tiny-vae/3": False}
    assert models.find(tag_of(1)) is models.find(tag_of(9)) is None
    for version in (3, 2):
        folder = read_model_folder(folders[version - 1])
        manifest = folder.manifest
        graphs = {decoder_graph(manifest): folder.content(manifest.files.decoder)}
        (session,) = open_sessions(graphs, SessionSpec("cpu"))
        np.testing.assert_array_equal(await used(models, version), session.run(LATENTS)[0])
        assert models.opened[f"tiny-vae/{version}"]


async def test_it_stays_open_and_the_one_not_needed_for_the_longest_is_closed(older: Older) -> None:
    models = older(2, 3, 4)
    assert MOST_OPEN == 2
    for version in (2, 3, 2, 4):
        await used(models, version)
    assert models.opened == {"tiny-vae/2": True, "tiny-vae/3": False, "tiny-vae/4": True}
    opened = await models.borrow(found(models, 2))
    assert await models.borrow(found(models, 2)) is opened
    await used(models, 3)
    assert models.opened == {"tiny-vae/2": True, "tiny-vae/3": True, "tiny-vae/4": False}
    models.give_back(found(models, 2))
    await used(models, 4)
    assert models.opened["tiny-vae/2"], "one who borrowed it still has it"
    np.testing.assert_array_equal(await opened.decoder.decode(LATENTS), await used(models, 2))
    models.give_back(found(models, 2))


async def test_who_finds_all_in_use_waits_for_one_to_be_given_back(older: Older) -> None:
    models = older(2, 3, 4)
    for version in (2, 3):
        await models.borrow(found(models, version))
    waiting = [asyncio.create_task(used(models, 4)) for _ in range(3)]
    await asyncio.wait(waiting, timeout=0)
    assert not any(task.done() for task in waiting)
    models.give_back(found(models, 3))
    await asyncio.gather(*waiting)
    assert models.opened == {"tiny-vae/2": True, "tiny-vae/3": False, "tiny-vae/4": True}


async def test_many_who_need_it_at_once_open_it_once(older: Older) -> None:
    models = older(2, 3, 4)
    drawn = await asyncio.gather(*(used(models, version) for version in (2, 2, 3, 4, 2, 3, 4, 4)))
    for first, second in ((0, 1), (0, 4), (2, 5), (3, 6), (3, 7)):
        np.testing.assert_array_equal(drawn[first], drawn[second])
    assert sum(models.opened.values()) == 2


async def test_a_cancelled_wait_leaves_nothing_behind(older: Older) -> None:
    models = older(2, 3, 4)
    for version in (2, 3):
        await models.borrow(found(models, version))
    waiting = asyncio.create_task(used(models, 4))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    models.give_back(found(models, 3))
    await used(models, 4)


async def test_a_folder_that_was_altered_fails_its_own_codes_alone(
    older: Older, folders: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    models = older(2, 3)
    decoder = folders[1] / "decoder.onnx"
    whole = decoder.read_bytes()
    decoder.write_bytes(whole[:-1] + b"?")
    with pytest.raises(InferenceFailed, match=r"^tiny-vae/2 cannot be opened$"):
        await models.borrow(found(models, 2))
    assert "was altered" in caplog.text
    await used(models, 3)
    decoder.write_bytes(whole)
    await used(models, 2)


async def test_runs_are_told_of_under_one_name(older: Older) -> None:
    observer = Watching()
    models = older(2, 3, observer=observer)
    await used(models, 2)
    await used(models, 3)
    assert observer.sizes["older-decoder"] == [3, 3]
    assert models.queued_rows == 0


async def test_after_a_drain_nothing_is_decoded(older: Older) -> None:
    models = older(2)
    opened = await models.borrow(found(models, 2))
    await models.drain()
    with pytest.raises(NotReady):
        await opened.decoder.decode(LATENTS)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([1], "is tiny-vae/1, whose codes begin as those of tiny-vae/1"),
        ([2, 2], "is tiny-vae/2, whose codes begin as those of tiny-vae/2"),
        ([2, 33], "is tiny-vae/33, whose codes begin as those of tiny-vae/1"),
        ([5], "has no codes"),
        ([6], "model.json cannot be read"),
        ([7], "codes.npz"),
    ],
)
async def test_what_cannot_be_read_is_refused_at_the_start(
    folders: list[Path], tmp_path: Path, given: list[int], complaint: str
) -> None:
    write_tiny_model(tmp_path / "33", version=33, codes=True)
    write_tiny_model(tmp_path / "5", version=5)
    write_tiny_model(tmp_path / "7", version=7, codes=True)
    (tmp_path / "7" / "codes.npz").write_bytes(b"")
    with pytest.raises(ModelFolderError, match=complaint):
        OlderModels(
            [tmp_path / str(version) for version in given],
            read_model_folder(folders[0]).manifest,
            threads=1,
            max_queue_rows=64,
            queue_timeout=10.0,
            observer=Watching(),
        )
