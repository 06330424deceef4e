"""Fuzzer of the reading of images, by atheris, which is not among the test requirements:

    pip install atheris
    python -m tests.fuzz.fuzz_images [corpus folder] -max_total_time=1200 -timeout=10 -rss_limit_mb=2048

Anything but an image of the model's size or one of the three errors is a finding. libFuzzer writes the input
of a finding into the working directory; it belongs into tests/app/robustness/test_hostile_images.py.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["PIL", "app"]):
    from PIL import Image

    from app.errors import ImageError
    from app.images.decode import FORMATS, configure_pillow, read_image
    from tests.heic import heic
    from tests.images import file_of, photograph

WIDTH, HEIGHT, MAX_PIXELS = 96, 64, 4_000_000
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")


def seeds() -> Iterator[bytes]:
    """A small file of each format in each mode it can hold, plain, interlaced, animated and with EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in FORMATS:
        for mode in MODES:
            frames = [photograph(20, 14, seed=2).convert(mode)]
            animated = {"save_all": True, "append_images": frames}
            for options in ({}, {"progressive": True}, {"exif": exif}, animated):
                try:
                    yield file_of(photograph(20, 14).convert(mode), kind, **options)
                except (OSError, ValueError, KeyError):  # the format cannot hold it
                    continue
    yield from (heic(), heic(tiles=2), heic(exif=exif.tobytes()[6:]))
    grey = np.asarray(photograph(20, 14).convert("L")).astype(np.uint16)
    for kind, compression in (("PNG", None), ("TIFF", "tiff_lzw"), ("TIFF", "packbits"), ("TIFF", "jpeg")):
        deep = grey if compression != "jpeg" else grey.astype(np.uint8)
        yield file_of(Image.fromarray(deep), kind, compression=compression)


def read_one(data: bytes) -> None:
    """What the fuzzer calls with each input."""
    try:
        image = read_image(data, WIDTH, HEIGHT, MAX_PIXELS)
    except ImageError:
        return
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8


def main() -> None:
    """Fuzz until libFuzzer stops; without a corpus folder a temporary one is used."""
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(folders[0] if folders else temporary)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number:03}").write_bytes(seed)
        arguments = sys.argv if folders else [*sys.argv, str(corpus)]
        configure_pillow()
        atheris.Setup(arguments, read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
