"""Codes of images: within their budget, the same integers everywhere, and nothing damaged is taken."""

import numpy as np
import pytest

from app.codes.codec import CodeCodec, CodeImage
from app.codes.tables import Floats
from app.codes.wire import from_text, seal, to_text
from app.errors import DamagedCode, WrongModel
from app.images.arrays import ImageArray
from app.images.quality import psnr
from tests.app.codes.golden import digest_of
from tests.app.codes.tiny_codes import HEIGHT, TAG, WIDTH, tiny_car, tiny_decode, tiny_tables

BUDGETS = [16, 24, 35, 64, 94, 128, 192, 255, 400]
GOLDEN = {
    24: "IaqAn0-bQoPSqkILxkjZdEpf0Y_4ANk",
    64: "IeFcRXNqNGs_iSCCxU6mbOZiKgZzcfwwu8UKYDGCRA4J_6HcjY4gTI2gKEnhqtaRuVnEGCu8m_s",
    128: "IfzKRXNqNGs_iSCCxNwc438lHnL2j07_-SIPdDC2GCbkkJbhYsMTLO8oCDumC1rL_SgqxPtQwMM0g7aOtEnmQCHYgl"
    "SDVUacxGkxbmnLjijpBXgPK62EEmZ8FvZA8jogRSnJlVHR",
    255: "IfzKRXNqNGs_iSCCxNwc438lHnL2j07_-SIPdDC2GCbkkJbhYsMTLO8oCDumC1rL_SgqxPtQwMM0g7aOtEnmQCHYgl"
    "SDVUacxGkxbmnLjijpBXgPK62EEmZ8FvZA8jogRSnJlVHR",
}
"""Text of codes by budget, as they were written once."""
SAID = {
    24: "e31944cac7018926d860021338001e96b24e8e8e1bbaa54eb4dd91c417275fa6",
    64: "d4bc64a964fedfb505bc77ddd7a973137b1436ac20725cce0d1ebd57387ca32a",
    128: "4d6f86d427da5246ffa899bea7412d69f852e8b6540d8ae592ab68857625605a",
    255: "4d6f86d427da5246ffa899bea7412d69f852e8b6540d8ae592ab68857625605a",
}
"""Digests of the whole numbers in them."""
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture(scope="module")
def codec() -> CodeCodec:
    return CodeCodec.read(tiny_tables().save(), TAG)


def pack(codec: CodeCodec, seed: int, budgets: list[int]) -> list[bytes]:
    image, latent = tiny_car(seed)
    return codec.pack(image, latent, (3000, 2000), tiny_decode, budgets)


def picture(codec: CodeCodec, code: bytes) -> CodeImage:
    content = codec.unpack(code)
    return codec.picture(content, tiny_decode(codec.latent(content)), None)


def test_more_bytes_are_a_nearer_picture_and_no_budget_is_exceeded(codec: CodeCodec) -> None:
    quality = np.zeros((20, len(BUDGETS)))
    for seed in range(20):
        image, _ = tiny_car(seed)
        for index, code in enumerate(pack(codec, seed, BUDGETS)):
            assert len(code) <= BUDGETS[index]
            quality[seed, index] = psnr(image[None], picture(codec, code).image[None])[0]
    means = quality.mean(axis=0)
    assert (np.diff(means)[:4] > 0).all()
    assert means[-1] > means[0] + 6


def test_several_budgets_give_the_codes_of_each_alone(codec: CodeCodec) -> None:
    assert pack(codec, 3, BUDGETS) == [pack(codec, 3, [budget])[0] for budget in BUDGETS]


def test_what_is_read_is_written_again(codec: CodeCodec) -> None:
    for seed in range(10):
        for code in pack(codec, seed, BUDGETS):
            assert codec.write(codec.unpack(code)) == code


@pytest.mark.parametrize("budget", GOLDEN)
def test_codes_of_today_are_read_and_written_for_good(codec: CodeCodec, budget: int) -> None:
    code = from_text(GOLDEN[budget])
    content = codec.unpack(code)
    assert digest_of(content) == SAID[budget]
    assert codec.write(content) == code
    image, _ = tiny_car(7)
    assert psnr(image[None], picture(codec, code).image[None])[0] > 20


def test_a_decoder_that_differs_by_a_grey_level_reads_the_same_integers(codec: CodeCodec) -> None:
    """Of packing the picture decides; of unpacking nothing that floats."""
    (code,) = pack(codec, 2, [255])
    content = codec.unpack(code)
    decoded = tiny_decode(codec.latent(content))
    noise = np.random.RandomState(0).randint(-1, 2, decoded.shape)
    other = np.clip(decoded.astype(np.int64) + noise, 0, 255).astype(np.uint8)
    one, two = codec.picture(content, decoded, None).image, codec.picture(content, other, None).image
    assert np.abs(one.astype(int) - two).max() == 1
    assert codec.write(content) == code


@pytest.mark.parametrize(
    ("size", "shape"), [((3000, 2000), (16, 24)), ((2000, 3000), (16, 11)), ((900, 300), (8, 24))]
)
def test_the_picture_comes_back_in_the_shape_of_the_original(
    codec: CodeCodec, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    image, latent = tiny_car(4)
    (code,) = codec.pack(image, latent, size, tiny_decode, [200])
    made = picture(codec, code)
    assert made.image.shape == (HEIGHT, WIDTH, 3)
    assert made.cropped().shape[:2] == shape
    left, top, right, bottom = made.box
    assert psnr(image[None, top:bottom, left:right], made.cropped()[None])[0] > 24


def test_the_post_filter_has_the_last_word(codec: CodeCodec) -> None:
    content = codec.unpack(pack(codec, 1, [60])[0])
    decoded = tiny_decode(codec.latent(content))
    seen: list[float] = []

    def post_filter(layers: Floats, base: Floats, fineness: float) -> ImageArray:
        np.testing.assert_array_equal(base, decoded)
        np.testing.assert_allclose(layers, decoded + codec.residual(content), atol=1e-4)
        seen.append(fineness)
        return np.full((HEIGHT, WIDTH, 3), 77, np.uint8)

    assert (codec.picture(content, decoded, post_filter).image == 77).all()
    assert 0 < seen[0] < 1


def test_every_changed_character_is_noticed(codec: CodeCodec) -> None:
    for budget in (24, 255):
        text = to_text(pack(codec, 5, [budget])[0])
        for index in range(len(text)):
            for character in ALPHABET.replace(text[index], "")[::7]:
                with pytest.raises(DamagedCode):
                    codec.unpack(from_text(text[:index] + character + text[index + 1 :]))


def test_cut_and_random_codes_are_refused(codec: CodeCodec) -> None:
    random = np.random.RandomState(0)
    code = pack(codec, 6, [200])[0]
    tries = [code[:length] for length in range(len(code))]
    tries += [random.bytes(random.randint(3, 400)) for _ in range(2000)]
    accepted = 0
    for bad in tries:
        try:
            codec.unpack(bad)
        except (DamagedCode, WrongModel):
            continue
        accepted += 1
    assert accepted <= 1


def test_forged_codes_are_read_without_fail_or_refused_quickly(codec: CodeCodec) -> None:
    """Check byte and tag fit: whatever stands between is refused, or is the one code of what it says."""
    random = np.random.RandomState(1)
    accepted = 0
    for _ in range(1500):
        payload = (
            random.choice([0, 255, random.randint(256)], random.randint(1, 398)).astype(np.uint8).tobytes()
        )
        payload = random.bytes(len(payload)) if random.randint(2) else payload
        try:
            content = codec.unpack(seal(TAG, payload))
        except DamagedCode:
            continue
        else:
            accepted += 1
            assert codec.write(content) == seal(TAG, payload)
    assert accepted < 1500 * 0.05


def test_what_cannot_be_packed_is_refused(codec: CodeCodec) -> None:
    image, latent = tiny_car(0)
    with pytest.raises(ValueError, match="up to 16 bytes, not 15"):
        codec.pack(image, latent, (3, 2), tiny_decode, [94, 15])
    latent[3] = np.nan
    with pytest.raises(ValueError, match="not all numbers"):
        codec.pack(image, latent, (3, 2), tiny_decode, [94])


def test_a_code_of_another_model_is_told_apart(codec: CodeCodec) -> None:
    other = CodeCodec(tiny_tables(), TAG + 1)
    with pytest.raises(WrongModel):
        other.unpack(pack(codec, 0, [94])[0])
