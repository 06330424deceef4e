"""Envelope of codes: one text for each code, and every changed character is noticed."""

import numpy as np
import pytest

from app.codes.wire import LONGEST, from_text, seal, tag_of, to_text, unseal
from app.errors import DamagedCode, WrongModel

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TAG = tag_of(3)


def test_the_first_byte_names_format_and_version() -> None:
    assert tag_of(3) == 0b001_00011
    assert tag_of(35) == tag_of(3)
    assert seal(TAG, b"car")[0] == TAG


def test_the_check_byte_is_that_of_crc_8_autosar() -> None:
    # The check value of the catalogue of parametrised CRC algorithms, of "123456789".
    assert seal(ord("1"), b"23456789")[-1] == 0xDF


def test_what_is_sealed_is_unsealed() -> None:
    for length in range(1, LONGEST - 1):
        payload = bytes(range(256)) * 2
        assert unseal(TAG, seal(TAG, payload[:length])) == payload[:length]


@pytest.mark.parametrize("length", [0, 1, 2, LONGEST + 1, 100_000])
def test_lengths_that_no_code_has_are_refused(length: int) -> None:
    with pytest.raises(DamagedCode, match=f"3 to {LONGEST} bytes"):
        unseal(TAG, bytes(length))


def test_every_changed_character_is_noticed() -> None:
    text = to_text(seal(TAG, np.random.RandomState(0).bytes(92)))
    for index in range(len(text)):
        for character in ALPHABET.replace(text[index], ""):
            with pytest.raises(DamagedCode):
                unseal(TAG, from_text(text[:index] + character + text[index + 1 :]))


def test_a_whole_code_of_another_model_is_told_apart() -> None:
    with pytest.raises(WrongModel, match="of a model of version 4; this one is of version 3"):
        unseal(TAG, seal(tag_of(4), b"car"))
    with pytest.raises(WrongModel, match="of format 2; this model reads format 1"):
        unseal(TAG, seal(2 << 5 | 3, b"car"))


@pytest.mark.parametrize("length", range(3, 40))
def test_a_code_has_one_text(length: int) -> None:
    code = bytes(range(length))
    assert from_text(to_text(code)) == code
    assert set(to_text(code)) <= set(ALPHABET)


@pytest.mark.parametrize(
    "text", ["AQIDBA==", "AQIDBA=", "AQID BA", "AQID+A", "AQID/A", "AQIDBB", "AQIDB", "AÄ", "\n"]
)
def test_text_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(DamagedCode):
        from_text(text)


def test_a_long_text_is_refused_by_its_length() -> None:
    with pytest.raises(DamagedCode, match="at most 400 bytes"):
        from_text("A" * 10_000_000)
