from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from core.ids import ALPHABET, encode_base32, new_uid


def test_ids_of_later_milliseconds_sort_later() -> None:
    first = new_uid("trn")
    time.sleep(0.002)
    assert first < new_uid("trn")


def test_an_id_says_its_kind_and_is_safe_in_an_address() -> None:
    uid = new_uid("dsv")
    assert uid.startswith("dsv_")
    assert len(uid) == 4 + 26
    assert set(uid[4:]) <= set(ALPHABET)


@given(st.integers(min_value=0, max_value=2**80 - 1))
def test_base32_keeps_every_bit(number: int) -> None:
    text = encode_base32(number, 16)
    value = 0
    for digit in text:
        value = value * 32 + ALPHABET.index(digit)
    assert value == number
