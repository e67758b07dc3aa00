"""Names of studies: safe as folders, and keyed hashes that say nothing."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from medmtl.inference.find.names import Pseudonyms, safe_name


def test_a_keyed_hash_is_the_beginning_of_hmac_sha256() -> None:
    key, uid = b"k" * 32, "1.2.840.113619.2.1"
    assert Pseudonyms(key).of(uid) == hmac.new(key, uid.encode(), hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(key).folder(uid) == Pseudonyms(key).of(uid)


def test_without_a_key_names_stay() -> None:
    assert Pseudonyms().of("1.2.3") == Pseudonyms().folder("1.2.3") == "1.2.3"
    assert Pseudonyms(b"k" * 16).of("") == ""


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Pseudonyms(b"secret" * 4))


def test_a_uid_is_its_own_name() -> None:
    assert safe_name("1.2.840.113619.2.1") == "1.2.840.113619.2.1"


@given(st.text(min_size=1))
def test_any_text_becomes_a_name_that_stays_in_its_folder(text: str) -> None:
    name = safe_name(text)
    assert name
    assert not set(name) - set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-")
    assert not name.startswith((".", "-"))
    assert len(name) <= 64


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_texts_have_two_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)
