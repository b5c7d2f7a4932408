import base64
import hashlib
import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanoexec.errors import IdentityError, UsageError
from nanoexec.keys.ca import make_ca
from nanoexec.keys.token import Token, check_pin, decode, digest, encode, pin_of

pytestmark = pytest.mark.node

NOW = 1_800_000_000.0
CA = make_ca("hub.example.net", NOW).certificate
TOKEN = Token(hub="hub.example.net", pin=bytes(range(16)), secret=bytes(range(100, 116)))
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?", fullmatch=True)
SIXTEEN = st.binary(min_size=16, max_size=16)


@given(NAMES, SIXTEEN, SIXTEEN)
def test_a_token_survives_the_clipboard(hub: str, pin: bytes, secret: bytes) -> None:
    token = Token(hub=hub, pin=pin, secret=secret)
    assert decode(encode(token)) == token


def test_a_token_is_the_hubs_name_and_48_characters() -> None:
    text = encode(TOKEN)
    assert text.startswith("hub.example.net.")
    assert len(text) == len("hub.example.net.") + 48
    assert text == text.strip()


def test_white_space_around_a_pasted_token_does_no_harm() -> None:
    assert decode(f"  {encode(TOKEN)}\r\n") == TOKEN


@given(st.integers(0, len(encode(TOKEN)) - 1), st.characters())
def test_no_single_character_can_be_mistyped_unnoticed(place: int, wrong: str) -> None:
    text = encode(TOKEN)
    damaged = text[:place] + wrong + text[place + 1 :]
    if damaged != text:
        with pytest.raises(UsageError, match="copy it again, whole"):
            decode(damaged)


@given(st.integers(0, len(encode(TOKEN)) - 1))
def test_no_token_that_was_cut_short_is_accepted(length: int) -> None:
    text = encode(TOKEN)
    for part in (text[:length], text[len(text) - length :]):
        with pytest.raises(UsageError):
            decode(part)


def test_a_slip_is_told_from_something_that_was_never_a_token() -> None:
    good = encode(TOKEN)
    last = "A" if good[-1] != "A" else "B"
    with pytest.raises(UsageError, match=r"damaged \(its checksum does not match\)"):
        decode(good[:-1] + last)
    with pytest.raises(UsageError, match="damaged"):
        decode(good.replace("hub.", "hob."))
    with pytest.raises(UsageError, match="this is not a join token"):
        decode("hub.example.net")


def test_a_well_made_token_for_a_name_that_no_hub_has_is_refused() -> None:
    with pytest.raises(UsageError, match="names its hub in a way that no hub is named"):
        decode(encode(Token(hub="Hub!", pin=TOKEN.pin, secret=TOKEN.secret)))


@given(st.text() | st.text("abcdefgh._-0123456789 \n=", max_size=300))
@example("." + "A" * 48)
@example("hub." + "A" * 48)
@example("\udcff." + "A" * 48)
@example("hub." + "\u0660" * 48)
def test_arbitrary_text_gets_one_line_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        decode(text)
    assert "\n" not in str(caught.value)
    assert len(text) < 20 or text not in str(caught.value)


def test_neither_an_error_nor_a_repr_gives_a_secret_away() -> None:
    text = encode(TOKEN)
    with pytest.raises(UsageError) as caught:
        decode(text + "x")
    assert text[20:40] not in str(caught.value)
    assert repr(TOKEN) == "Token(hub='hub.example.net', ...)"


def test_the_hub_keeps_the_sha256_of_a_secret() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_pin_is_the_beginning_of_the_certificates_sha256() -> None:
    der = ssl.PEM_cert_to_DER_cert(CA)
    assert pin_of(CA) == hashlib.sha256(der).digest()[:16]
    assert pin_of(CA.replace("\n", "\r\n") + "\n\n") == pin_of(CA)


def test_the_pinned_ca_is_accepted() -> None:
    token = Token(hub="hub", pin=pin_of(CA), secret=TOKEN.secret)
    assert check_pin(token, CA) == CA


def test_another_ca_is_not_accepted_even_of_the_same_name() -> None:
    token = Token(hub="hub.example.net", pin=pin_of(CA), secret=TOKEN.secret)
    with pytest.raises(IdentityError, match=r"\Athe machine that answers for hub\.example\.net has another CA[^\n]*\Z"):
        check_pin(token, make_ca("hub.example.net", NOW).certificate)


def padded_ca() -> str:
    """A CA whose base64 ends in padding, where lenient readers stop."""
    while True:
        ca = make_ca("hub", NOW).certificate
        if "=" in ca:
            return ca


def test_a_second_certificate_behind_the_pinned_one_is_refused() -> None:
    ca, evil = padded_ca(), make_ca("hub", NOW).certificate
    assert ssl.PEM_cert_to_DER_cert(ca + evil) == ssl.PEM_cert_to_DER_cert(ca)  # why this needs care
    token = Token(hub="hub", pin=pin_of(ca), secret=TOKEN.secret)
    for shown in (ca + evil, evil + ca, "# comment\n" + ca, ca + "more"):
        with pytest.raises(IdentityError, match="not exactly one certificate"):
            check_pin(token, shown)


def test_what_is_compared_is_what_is_trusted() -> None:
    """Two spellings of one certificate: the accepted text is made from the bytes that were compared."""
    token = Token(hub="hub", pin=pin_of(CA), secret=TOKEN.secret)
    body = base64.b64encode(ssl.PEM_cert_to_DER_cert(CA)).decode()
    odd = f"\n\n-----BEGIN CERTIFICATE-----\r\n{body}\r\n-----END CERTIFICATE-----"
    assert odd != CA
    assert check_pin(token, odd) == CA


@given(st.text() | st.text("AB=+/\n", max_size=80).map(lambda t: CA.splitlines()[0] + "\n" + t + CA.splitlines()[-1]))
@example("-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----")
@example("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----")
@example("\udcff")
def test_arbitrary_text_is_never_the_pinned_ca(text: str) -> None:
    with pytest.raises(IdentityError):
        check_pin(Token(hub="hub", pin=pin_of(CA), secret=TOKEN.secret), text)
