"""Backend of an exported model folder: sizes, batches, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelFolderError
from model_training.backends.base import BATCH_SIZE
from model_training.backends.onnx_backend import BatchedSession, OnnxBackend, OnnxGraphs
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, random_images, write_tiny_model

ROWS = BATCH_SIZE + 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def backend(folder: Path) -> OnnxBackend:
    return OnnxBackend(folder)


def test_sizes_are_those_of_the_manifest(backend: OnnxBackend) -> None:
    assert (backend.width, backend.height, backend.latent_dim) == (WIDTH, HEIGHT, LATENT_DIM)
    assert backend.manifest.id == "tiny-vae/1"


def test_more_rows_than_a_batch_are_computed_as_each_alone(backend: OnnxBackend) -> None:
    images = random_images(ROWS)
    mean, log_variance = backend.encode(images)
    decoded = backend.decode(mean)
    assert mean.shape == log_variance.shape == (ROWS, LATENT_DIM)
    assert decoded.shape == images.shape
    assert decoded.dtype == np.uint8
    for index in (0, BATCH_SIZE - 1, BATCH_SIZE, ROWS - 1):
        alone_mean, alone_log_variance = backend.encode(images[[index]])
        np.testing.assert_allclose(alone_mean[0], mean[index], atol=1e-4)
        np.testing.assert_allclose(alone_log_variance[0], log_variance[index], atol=1e-4)
        alone = backend.decode(mean[[index]])[0]
        assert np.abs(alone.astype(int) - decoded[index]).max() <= 1


def test_mirrored_views_of_an_array_are_taken_as_they_are(backend: OnnxBackend) -> None:
    mirrored = random_images(3)[:, :, ::-1]
    np.testing.assert_array_equal(
        backend.encode(mirrored)[0], backend.encode(np.ascontiguousarray(mirrored))[0]
    )


def test_graphs_come_from_files_or_from_their_content(folder: Path) -> None:
    paths = folder / "encoder.onnx", folder / "decoder.onnx"
    from_files, from_content = OnnxGraphs(*paths), OnnxGraphs(*(path.read_bytes() for path in paths))
    images = random_images(2)
    for one, other in zip(from_files.encode(images), from_content.encode(images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_session_tells_the_shape_it_takes(folder: Path) -> None:
    _, *sizes = BatchedSession(folder / "encoder.onnx").input_shape
    assert sizes == [HEIGHT, WIDTH, 3]


def test_an_altered_graph_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    (folder / "decoder.onnx").write_bytes((folder / "decoder.onnx").read_bytes() + b"x")
    with pytest.raises(ModelFolderError, match=r"decoder\.onnx"):
        OnnxBackend(folder)
