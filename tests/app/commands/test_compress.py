"""car-vae compress: the codes, where they go, and what is said of files that have none."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.codes.codec import CodeCodec
from app.codes.wire import from_text, tag_of, to_text
from app.commands.model import Compressor
from app.images.decode import read_image
from app.images.quality import psnr, ssim
from app.inference.session import SessionSpec, decoder_graph, encoder_graph, open_sessions
from app.model.manifest import read_model_folder
from tests.app.codes.tiny_codes import tiny_tables
from tests.app.commands.conftest import Run
from tests.tiny_model import filtered_by_tiny_model, refined_by_tiny_model, write_tiny_model


def test_a_code_is_what_the_codec_makes_of_the_refined_latent(
    coded: Path, here: Path, compressor: Compressor
) -> None:
    folder = read_model_folder(coded)
    files = folder.manifest.files
    graphs = {encoder_graph(folder.manifest): files.encoder, decoder_graph(folder.manifest): files.decoder}
    encoder, decoder = open_sessions(
        {graph: folder.content(file) for graph, file in graphs.items()}, SessionSpec("cpu")
    )
    codec = CodeCodec(tiny_tables(), tag_of(1))
    content = (here / "tall.png").read_bytes()
    image = read_image(content, 24, 16, 10**6)
    latent = refined_by_tiny_model(image[None], encoder.run(image[None])[0])[0]
    for budget in (16, 94, 400):
        (code,) = codec.pack(image, latent, (30, 60), lambda one: decoder.run(one[None])[0][0], [budget])
        packed = compressor.compress(content, budget)
        assert packed.code == code
        assert len(code) <= budget
        told = codec.unpack(code)
        layers = decoder.run(codec.latent(told)[None])[0][0].astype(np.float32) + codec.residual(told)
        inside = (slice(None), slice(8, 16))
        expected = filtered_by_tiny_model(layers, codec.fineness(told))[inside]
        np.testing.assert_array_equal(packed.image[inside], expected)
        assert packed.psnr == psnr(image[None], packed.image[None])[0]
        assert packed.ssim == ssim(image[None], packed.image[None])[0]


def test_a_file_lies_beside_each_photograph(run: Run, here: Path, compressor: Compressor) -> None:
    result = run("compress", "wide.jpg", "tall.png")
    assert (result.exit_code, result.output) == (0, "")
    for photograph in ("wide.jpg", "tall.png"):
        expected = compressor.compress((here / photograph).read_bytes(), 94).code
        assert (here / photograph).with_suffix(".car").read_bytes() == expected


def test_text_and_json_are_lines_and_no_files(run: Run, here: Path, compressor: Compressor) -> None:
    wide, tall = (compressor.compress((here / name).read_bytes(), 50) for name in ("wide.jpg", "tall.png"))
    told = "compress", "--bytes", "50"
    assert run(*told, "--text", "wide.jpg").output == f"{to_text(wide.code)}\n"
    several = run(*told, "--text", "wide.jpg", "tall.png").output
    assert several == f"{to_text(wide.code)}  wide.jpg\n{to_text(tall.code)}  tall.png\n"
    lines = [json.loads(line) for line in run(*told, "--json", "wide.jpg", "tall.png").output.splitlines()]
    assert lines == [
        {
            "file": name,
            "code": to_text(packed.code),
            "bytes": len(packed.code),
            "psnr": pytest.approx(packed.psnr, abs=0.005),
            "ssim": pytest.approx(packed.ssim, abs=5e-5),
        }
        for name, packed in (("wide.jpg", wide), ("tall.png", tall))
    ]
    assert list(here.glob("*.car")) == []


def test_lines_and_files_where_both_are_asked_for(run: Run, here: Path) -> None:
    result = run("compress", "wide.jpg", "tall.png", "--text", "-o", "codes/today")
    codes = [from_text(line.split()[0]) for line in result.output.splitlines()]
    assert codes == [(here / "codes" / "today" / f"{name}.car").read_bytes() for name in ("wide", "tall")]
    assert run("compress", "wide.jpg", "--text", "-o", "-").exit_code == 2


def test_standard_input_goes_to_standard_output(run: Run, here: Path, compressor: Compressor) -> None:
    content = (here / "tall.png").read_bytes()
    code = compressor.compress(content, 94).code
    assert run("compress", "-", given=content).stdout_bytes == code
    assert run("compress", "tall.png", "-o", "-").stdout_bytes == code
    assert run("compress", "-", "-o", "one.bin", given=content).stdout_bytes == b""
    assert (here / "one.bin").read_bytes() == code


def test_bad_files_are_named_and_good_ones_are_done(run: Run, here: Path) -> None:
    result = run("compress", "gone.jpg", "notes.txt", "wide.jpg", ".")
    assert result.exit_code == 1
    assert result.stdout == ""
    gone, notes, folder = result.stderr.splitlines()
    assert gone == "Error: gone.jpg: No such file or directory"
    assert notes.startswith("Error: notes.txt: not a picture of a supported format")
    assert folder.startswith("Error: .")
    assert (here / "wide.car").is_file()


def test_nothing_is_replaced_without_force(run: Run, here: Path, compressor: Compressor) -> None:
    (here / "wide.car").write_bytes(b"mine")
    result = run("compress", "wide.jpg")
    assert (result.exit_code, result.stderr) == (1, "Error: wide.car: exists already; --force replaces it\n")
    assert (here / "wide.car").read_bytes() == b"mine"
    assert run("compress", "wide.jpg", "--force").exit_code == 0
    assert (here / "wide.car").read_bytes() == compressor.compress((here / "wide.jpg").read_bytes(), 94).code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'FILES...'"),
        (("wide.jpg", "--bytes", "15"), "15 is not in the range 16<=x<=400"),
        (("wide.jpg", "--bytes", "401"), "401 is not in the range 16<=x<=400"),
        (("-", "wide.jpg"), "standard input (-) goes by itself"),
        (("-", "-o", "."), "- has no file name: name a file with --output"),
        (("wide.jpg", "tall.png", "-o", "-"), "only what is made of one source goes to standard output"),
        (("wide.jpg", "wide.png"), "wide.jpg and wide.png would both become wide.car"),
        (("wide.jpg", "-o", "wide.jpg", "--force"), "wide.jpg would replace a source"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_done(
    run: Run, here: Path, arguments: tuple[str, ...], says: str
) -> None:
    before = sorted(here.iterdir())
    result = run("compress", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert sorted(here.iterdir()) == before


def test_a_model_without_codes_and_a_folder_without_a_model(run: Run, here: Path) -> None:
    write_tiny_model(here / "plain")
    plain, none = (run("compress", "wide.jpg", "--model", folder) for folder in ("plain", "none"))
    assert (plain.exit_code, none.exit_code) == (1, 1)
    assert plain.stderr == "Error: plain: tiny-vae/1 has no codes; name a model that has, with --model\n"
    assert none.stderr.startswith("Error: none/model.json cannot be read (No such file or directory)")
