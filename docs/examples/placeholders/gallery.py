"""Gallery of photographs whose places are never empty: each shows its code until the photograph is there.

    python gallery.py photographs --url http://localhost:8000 --bytes 35

Writes index.html and gallery.css beside the photographs; the page has no script. --url is the service, which
makes the codes, and from which browsers get the placeholders: they may keep them for good. CAR_VAE_API_KEY is
the service's key where it asks for one to make codes.
"""

import argparse
import html
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
from PIL import Image, ImageOps

SUFFIXES = frozenset((".avif", ".gif", ".jpeg", ".jpg", ".png", ".webp"))

PAGE = """<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Cars</title>
  <link rel="stylesheet" href="gallery.css">
  <main>
{cars}  </main>
</html>
"""
CAR = """    <img src="{file}" alt="{name}" width="{width}" height="{height}" loading="lazy" decoding="async"
      style="background-image: url({url}/c/{code}.webp)">
"""


def code_of(client: httpx.Client, photograph: Path, budget: int) -> str:
    """The code of a photograph, as text of an address."""
    answer = client.post("/compress", params={"bytes": budget}, files={"image": photograph.read_bytes()})
    if answer.is_error:
        sys.exit(f"{photograph}: {answer.json().get('detail', answer.reason_phrase)}")
    (code,) = answer.json()["items"][0]["codes"]
    return str(code)


def upright_size(photograph: Path) -> tuple[int, int]:
    """Width and height of a photograph as browsers show it."""
    with Image.open(photograph) as image:
        return ImageOps.exif_transpose(image).size


def main() -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(description="A page of photographs that shows their codes first.")
    parser.add_argument("folder", type=Path, help="of photographs; the page is written into it")
    parser.add_argument("--url", default="http://localhost:8000", help="of the service")
    parser.add_argument("--bytes", type=int, default=35, help="of each code at most; default: %(default)s")
    options = parser.parse_args()
    photographs = [path for path in sorted(options.folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    key = os.environ.get("CAR_VAE_API_KEY")
    cars = ""
    with httpx.Client(base_url=options.url, headers={"X-API-Key": key} if key else {}, timeout=60) as client:
        for photograph in photographs:
            code = code_of(client, photograph, options.bytes)
            width, height = upright_size(photograph)
            cars += CAR.format(
                file=quote(photograph.name),
                name=html.escape(photograph.stem),
                width=width,
                height=height,
                url=html.escape(options.url),
                code=code,
            )
    (options.folder / "index.html").write_text(PAGE.format(cars=cars), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("gallery.css"), options.folder)


if __name__ == "__main__":
    main()
