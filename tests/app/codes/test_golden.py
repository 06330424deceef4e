"""Golden codes: what codes of car-vae/3 say today, they say for good, and are written so."""

import json
from itertools import product
from pathlib import Path
from typing import TypedDict

import pytest

from app.codes.codec import CodeCodec
from app.codes.wire import from_text
from app.model.manifest import read_model_folder
from tests.app.codes.golden import BUDGETS, SEEDS, digest_of

FOLDER = Path(__file__).parents[3] / "models" / "car-vae" / "3"


class Golden(TypedDict):
    """A code and the digest of what it says."""

    code: str
    says: str


GOLDEN: list[Golden] = json.loads((Path(__file__).parent / "golden-car-vae-3.json").read_text())
PLACES = [f"{budget} bytes, seed {seed}" for seed, budget in product(SEEDS, BUDGETS)]


@pytest.fixture(scope="module")
def codec() -> CodeCodec:
    model = read_model_folder(FOLDER)
    files = model.manifest.codes
    assert files is not None
    return CodeCodec.read(model.content(files.tables), files.tag)


@pytest.mark.parametrize("golden", GOLDEN, ids=PLACES)
def test_codes_are_read_and_written_for_good(codec: CodeCodec, golden: Golden) -> None:
    code = from_text(golden["code"])
    content = codec.unpack(code)
    assert digest_of(content) == golden["says"]
    assert codec.write(content) == code


def test_codes_of_every_budget_fill_it() -> None:
    sizes = [len(from_text(golden["code"])) for golden in GOLDEN]
    for (_, budget), size in zip(product(SEEDS, BUDGETS), sizes, strict=True):
        assert budget - 8 <= size <= budget
