"""Codes of a model folder: packed and measured, seen through the filter, faded along a path."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.codes.codec import CodeCodec
from app.codes.wire import tag_of
from app.errors import ModelFolderError
from app.images.quality import psnr, ssim
from app.inference.coder import Coder, read_codec
from app.inference.codes import faded
from app.inference.session import SessionSpec, open_sessions, post_filter_graph
from app.model.interpolation import Fade
from app.model.manifest import describe_file, read_manifest, read_model_folder, write_manifest
from tests.app.codes.tiny_codes import tiny_car, tiny_decode, tiny_tables
from tests.tiny_model import filtered_by_tiny_model, write_tiny_model


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Coder:
    folder = read_model_folder(write_tiny_model(tmp_path_factory.mktemp("tiny") / "1", codes=True))
    codec, files = read_codec(folder), folder.manifest.codes
    assert codec is not None
    assert files is not None
    assert files.filter is not None
    graph = post_filter_graph(folder.manifest, files.filter)
    (session,) = open_sessions({graph: folder.content(files.filter)}, SessionSpec("cpu"))
    return Coder(codec, session)


def test_each_code_is_measured_as_it_will_be_seen(coder: Coder) -> None:
    image, latent = tiny_car(4)
    packed = coder.pack(image, latent, (24, 12), [30, 120, 30], tiny_decode)
    assert [len(each.code) <= budget for each, budget in zip(packed, (30, 120, 30), strict=True)] == [
        True
    ] * 3
    assert packed[0] is packed[2]
    for each in packed:
        content = coder.codec.unpack(each.code)
        seen = coder.picture(content, tiny_decode(coder.codec.latent(content)))
        assert np.array_equal(each.image, seen.image)
        assert each.box == seen.box == (0, 2, 24, 14)
        assert each.psnr == pytest.approx(psnr(image[None], seen.image[None])[0])
        assert each.ssim == pytest.approx(ssim(image[None], seen.image[None])[0])


def test_the_filter_is_given_the_layers_and_how_fine_they_are(coder: Coder) -> None:
    image, latent = tiny_car(5)
    (packed,) = coder.pack(image, latent, (24, 16), [120], tiny_decode)
    content = coder.codec.unpack(packed.code)
    layers = tiny_decode(coder.codec.latent(content)) + coder.codec.residual(content)
    expected = filtered_by_tiny_model(layers, coder.codec.fineness(content))
    assert np.array_equal(packed.image, expected)


def test_a_folder_without_codes_has_no_codec(tmp_path: Path) -> None:
    assert read_codec(read_model_folder(write_tiny_model(tmp_path / "1"))) is None


def test_tables_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "1", codes=True)
    (folder / "codes.npz").write_bytes(b"no tables")
    manifest = read_manifest(folder)
    assert manifest.codes is not None
    codes = replace(manifest.codes, tables=describe_file(folder / "codes.npz"))
    write_manifest(folder, replace(manifest, codes=codes))
    with pytest.raises(ModelFolderError, match=r"codes\.npz"):
        read_codec(read_model_folder(folder))


def test_frames_show_of_a_code_what_its_fade_says() -> None:
    decoded = np.full((3, 16, 24, 3), 100, np.uint8)
    bases = np.full((2, 16, 24, 3), 90, np.uint8)
    ends = [np.full((16, 24, 3), 110, np.uint8), np.full((16, 24, 3), 250, np.uint8)]
    frames = faded(decoded, ends, bases, [Fade(0, 0.5), Fade(1, 0.0), Fade(1, 1.0)])
    assert frames[:, 0, 0, 0].tolist() == [110, 100, 255]
    assert decoded.max() == 100


def test_tables_are_those_of_the_folder(coder: Coder) -> None:
    image, latent = tiny_car(6)
    assert CodeCodec(tiny_tables(), tag_of(1)).pack(image, latent, (24, 16), tiny_decode, [64]) == [
        each.code for each in coder.pack(image, latent, (24, 16), [64], tiny_decode)
    ]
