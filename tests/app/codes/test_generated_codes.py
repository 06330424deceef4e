"""Generated codes: whatever they say comes back, and whatever is no code is refused after a bounded look."""

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codes import codec as codec_module
from app.codes.codec import CodeCodec
from app.codes.content import CodeContent
from app.codes.latent_layer import LatentValues
from app.codes.range_coder import TOTAL, WINDOW, WORD, DamagedBytesError, RangeDecoder, encode
from app.codes.residual_layer import LARGEST, ResidualValues
from app.codes.shape import shape_count
from app.codes.wire import LONGEST, from_text, seal, to_text
from app.errors import DamagedCode, WrongModel
from tests.app.codes.tiny_codes import BLOCKS, COMPONENTS, DIMENSIONS, HEIGHT, REACH, TAG, WIDTH, tiny_tables

LENGTHS = [16, 24, 35, 64, 94, 128, 192, 255, 400]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TABLES = tiny_tables()
CODEC = CodeCodec(TABLES, TAG)
SHAPES = shape_count(WIDTH, HEIGHT)
MOST_SYMBOLS = 2 + DIMENSIONS + COMPONENTS * BLOCKS * (2 + LARGEST)


@st.composite
def contents(draw: st.DrawFn) -> CodeContent:
    """What a code may say: any setting and shape, and any values where the setting codes some."""
    setting = draw(st.integers(0, len(TABLES.settings) - 1))
    latent_step, residual_step = TABLES.settings[setting].tolist()
    random = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    most = draw(st.integers(0, 3))
    values = random.randint(-min(most, REACH), most + 1, DIMENSIONS)
    latent = LatentValues(latent_step, np.where(TABLES.latent_classes + latent_step >= 0, values, 0))
    residual = None
    if residual_step >= 0:
        magnitudes = random.geometric(draw(st.sampled_from([0.2, 0.9, 0.999])), (COMPONENTS, BLOCKS)) - 1
        signed = np.minimum(magnitudes, LARGEST) * random.choice([-1, 1], magnitudes.shape)
        coded = TABLES.residual_classes + residual_step >= 0
        residual = ResidualValues(residual_step, np.where(coded, signed, 0))
    return CodeContent(setting, draw(st.integers(0, SHAPES - 1)), latent, residual)


def accepted(code: bytes) -> bool:
    """Whether it is a code; then it is the one code of what it says."""
    try:
        content = CODEC.unpack(code)
    except (DamagedCode, WrongModel):
        return False
    assert CODEC.write(content) == code
    return True


@given(contents())
def test_what_a_code_says_comes_back(content: CodeContent) -> None:
    code = CODEC.write(content)
    if len(code) > LONGEST:
        with pytest.raises(DamagedCode):
            CODEC.unpack(code)
        return
    read = CODEC.unpack(from_text(to_text(code)))
    assert read[:2] == content[:2]
    assert read.latent.step == content.latent.step
    np.testing.assert_array_equal(read.latent.values, content.latent.values)
    assert (read.residual is None) == (content.residual is None)
    if read.residual is not None and content.residual is not None:
        assert read.residual.step == content.residual.step
        np.testing.assert_array_equal(read.residual.values, content.residual.values)


@given(st.lists(st.tuples(st.integers(1, TOTAL - 1), st.booleans())))
def test_bits_of_any_chance_come_back(bits: list[tuple[int, bool]]) -> None:
    data = encode([(zero, TOTAL - zero) if one else (0, zero) for zero, one in bits])
    decoder = RangeDecoder(data)
    assert [bool(decoder.symbol((0, zero))) for zero, _ in bits] == [one for _, one in bits]
    decoder.finish()
    zeros, index, found = [zero for zero, _ in bits], -1, []
    decoder = RangeDecoder(data)
    while (index := decoder.first_one(zeros, index + 1)) < len(bits):
        found.append(index)
    decoder.finish()
    assert found == [index for index, (_, one) in enumerate(bits) if one]


@given(st.binary(max_size=LONGEST + 8))
def test_bytes_are_refused_or_the_one_code_of_what_they_say(data: bytes) -> None:
    accepted(data)
    accepted(seal(TAG, data))


@given(st.text(max_size=600) | st.text(ALPHABET, max_size=540))
def test_text_is_refused_or_the_one_text_of_a_code(text: str) -> None:
    try:
        code = from_text(text)
    except DamagedCode:
        return
    assert to_text(code) == text
    accepted(code)


@pytest.mark.parametrize("length", LENGTHS)
def test_one_in_two_hundred_random_codes_of_a_length_is_taken_at_most(length: int) -> None:
    random = np.random.RandomState(length)
    assert sum(accepted(random.bytes(length)) for _ in range(1000)) <= 5


@pytest.mark.parametrize("length", LENGTHS)
def test_every_changed_character_is_noticed_at_every_length(length: int) -> None:
    text = to_text(seal(TAG, np.random.RandomState(length).bytes(length - 2)))
    for index, own in enumerate(text):
        for character in ALPHABET.replace(own, "")[index % 5 :: 5]:
            with pytest.raises(DamagedCode, match="altered"):
                CODEC.unpack(from_text(text[:index] + character + text[index + 1 :]))


class Counting(RangeDecoder):
    """Counts what it is asked for."""

    made: ClassVar[list["Counting"]] = []

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.symbols, self.size = 0, len(data)
        self.made.append(self)

    def symbol(self, *arguments: Any) -> int:
        self.symbols += 1
        return super().symbol(*arguments)

    def first_one(self, zeros: Any, begin: int) -> int:
        index = super().first_one(zeros, begin)
        self.symbols += min(index + 1, len(zeros)) - begin
        return index


@settings(max_examples=300)
@given(
    st.binary(min_size=1, max_size=LONGEST - 2)
    | st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(1, LONGEST - 2))
)
def test_what_is_forged_is_refused_after_a_bounded_look(payload: bytes) -> None:
    """Tag and check byte fit: no more symbols are read than a code may have, nor bits than the payload has
    and those of a window and a word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_module, "RangeDecoder", Counting)
        patch.setattr(Counting, "made", [])
        accepted(seal(TAG, payload))
        (decoder,) = Counting.made
    assert decoder.symbols <= MOST_SYMBOLS
    assert decoder._read <= 8 * len(payload) + WINDOW + WORD


def test_bytes_that_end_early_stop_the_reader() -> None:
    decoder = RangeDecoder(b"\0")
    zeros = [TOTAL // 2] * 10_000
    with pytest.raises(DamagedBytesError, match="end before"):
        decoder.first_one(zeros, 0)


@pytest.mark.parametrize("code", [b"", b"x", bytes(LONGEST + 1), bytes(10_000_000)])
def test_lengths_that_no_code_has_are_refused_before_anything_is_read(code: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_module, "RangeDecoder", Counting)
        patch.setattr(Counting, "made", [])
        assert not accepted(code)
        assert not Counting.made
