"""What the tests of the panel Compress share: a service whose model has codes, photographs, what is seen."""

import base64
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, Route

from tests.e2e.conftest import serving
from tests.e2e.page.visits import Visit, pixels
from tests.tiny_model import write_tiny_model

STOPS = [24, 35, 48, 64, 94, 128, 192, 255, 400]
SMALLEST = {"webp": 60, "blurhash": 22, "thumbhash": 21, "jpeg": 308, "avif": 299}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """In place of the client of the trained model, which has no codes."""
    folder = tmp_path_factory.mktemp("codes")
    model = write_tiny_model(folder / "tiny-vae" / "1", codes=True, refiner=True)
    with serving(model, folder / "service.log", queue_timeout="60") as client:
        yield client


def picture(colour: Any, width: int = 480, height: int = 320) -> FilePayload:
    """A photograph of about one colour, or of several side by side."""
    image = Image.new("RGB", (width, height))
    colours = colour if isinstance(colour, list) else [colour]
    for index, each in enumerate(colours):
        image.paste(each, (width * index // len(colours), 0, width, height))
    noise = (
        np.random.RandomState(width)
        .randint(-12, 13, (height // 20, width // 20, 3))
        .repeat(20, 0)
        .repeat(20, 1)
    )
    grained = np.clip(np.asarray(image, np.int64) + noise, 0, 255).astype(np.uint8)
    image = Image.fromarray(grained)
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": "car.png", "mimeType": "image/png", "buffer": file.getvalue()}


def shown(canvas: Locator) -> NDArray[np.uint8]:
    """What a canvas shows, (height, width, 3) uint8."""
    with Image.open(io.BytesIO(base64.b64decode(pixels(canvas).partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def of_url(url: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def add_formats(page: Page) -> None:
    """Give the service's answers what it is asked for of other formats."""

    def fulfil(route: Route) -> None:
        address = urlsplit(route.request.url)
        query = parse_qs(address.query)
        formats = query.pop("others")[0].split(",")
        answer = route.fetch(url=address._replace(query=urlencode(query, doseq=True)).geturl())
        content = answer.json()
        budgets = [int(text) for text in query["bytes"][0].split(",")]
        for item in content.get("items", []):
            item["others"] = [in_format(name, budgets, item) for name in formats]
        route.fulfill(response=answer, json=content)

    page.route("**/compress.json?*", fulfil)


def in_format(name: str, budgets: list[int], item: dict[str, Any]) -> dict[str, Any]:
    """AVIF, where it can be at all, is nearer to the original than the code; all others are not."""
    gain = 1 if name == "avif" else -1
    fits = [SMALLEST[name] <= budget for budget in budgets]
    return {
        "format": name,
        "smallest": SMALLEST[name],
        "bytes": [budget - 1 if fit else None for budget, fit in zip(budgets, fits, strict=True)],
        "psnr": [psnr + gain if fit else None for psnr, fit in zip(item["psnr"], fits, strict=True)],
        "images": [item["images"][0] if fit else None for fit in fits],
    }


def open_compress(visit: Visit, fragment: str = "compress") -> Locator:
    add_formats(visit.page)
    return visit.open(fragment)


def part(visit: Visit, name: str) -> Locator:
    return visit.part("compress", name)


def codes_of(client: httpx.Client, file: FilePayload, stops: list[int] = STOPS) -> dict[str, Any]:
    """What the service itself answers for a photograph."""
    answer = client.post(
        "/compress.json",
        params={"bytes": ",".join(map(str, stops)), "images": "png"},
        files={"image": file["buffer"]},
    )
    item: dict[str, Any] = answer.json()["items"][0]
    return item
