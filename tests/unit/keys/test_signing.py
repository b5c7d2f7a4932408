import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import ConfigError, IdentityError, RefusedError
from nanoexec.keys.ca import make_node_key
from nanoexec.keys.signing import make_signing_key, public_line, sign, verify

pytestmark = pytest.mark.node

KEY, OTHER, THIRD = make_signing_key(), make_signing_key(), make_signing_key()
LINE, OTHER_LINE = public_line(KEY), public_line(OTHER)
BODY = b"nanoexec trigger 1\0body"
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


def test_a_trigger_signed_by_any_of_the_signers_is_accepted() -> None:
    for key in (KEY, OTHER):
        verify([LINE, OTHER_LINE], BODY, sign(key, BODY))


def test_an_unsigned_trigger_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"^trigger is not signed; this node runs only signed triggers$"):
        verify([LINE], BODY, b"")


def test_a_stranger_is_refused_and_told_how_many_signers_there_are() -> None:
    signature = sign(THIRD, BODY)
    with pytest.raises(RefusedError, match=r"^signature is not by any of this node's 2 signers$"):
        verify([LINE, OTHER_LINE], BODY, signature)
    with pytest.raises(RefusedError, match=r"^signature is not by this node's signer$"):
        verify([LINE], BODY, signature)


def test_without_signers_nothing_is_accepted() -> None:
    with pytest.raises(RefusedError):
        verify([], BODY, sign(KEY, BODY))
    with pytest.raises(RefusedError):
        verify([], BODY, b"")


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_is_refused(place: int, change: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= change
    with pytest.raises(RefusedError):
        verify([LINE], bytes(changed), sign(KEY, BODY))


@given(st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_are_nobodys_signature(signature: bytes) -> None:
    with pytest.raises(RefusedError):
        verify([LINE, OTHER_LINE], BODY, signature)


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_signature_is_refused(place: int, change: int) -> None:
    signature = bytearray(sign(KEY, BODY))
    signature[place] ^= change
    with pytest.raises(RefusedError):
        verify([LINE], BODY, bytes(signature))


@pytest.mark.parametrize(
    "bad",
    ["", "hello", LINE[:-4], LINE + "AAAA", LINE + " ", f" {LINE}", LINE.rstrip("="), "é", "\udcff"],
    ids=["nothing", "a word", "short", "long", "blank after", "blank before", "no padding", "not ASCII", "a surrogate"],
)
def test_a_bad_key_in_the_configuration_is_named_by_its_index_even_if_another_has_signed(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"^agent\.toml: signers\[1\]: not an Ed25519 public key"):
        verify([LINE, bad], BODY, sign(KEY, BODY))


@given(st.text())
def test_arbitrary_text_as_a_signer_is_a_fault_of_the_configuration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"signers\[0\]"):
        verify([text], BODY, sign(KEY, BODY))


def test_the_public_line_is_32_bytes_in_base64_and_gives_nothing_away() -> None:
    assert len(LINE) == 44
    assert len(base64.b64decode(LINE)) == 32
    assert "PRIVATE" in KEY
    assert LINE not in KEY


@pytest.mark.parametrize("key", ["", "hello", LINE, "\udcff"], ids=["nothing", "a word", "public", "a surrogate"])
def test_a_signing_key_that_cannot_be_read_is_said(key: str) -> None:
    for use in (public_line, lambda pem: sign(pem, BODY)):
        with pytest.raises(IdentityError, match="signing key: not a private key in PEM without a passphrase"):
            use(key)


def test_a_signing_key_of_another_kind_is_said() -> None:
    with pytest.raises(IdentityError, match=r"^signing key: it must be Ed25519$"):
        sign(make_node_key(), BODY)


def test_a_signing_key_with_a_passphrase_is_said() -> None:
    locked = serialization.load_pem_private_key(KEY.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"made up"),
    )
    with pytest.raises(IdentityError, match="without a passphrase"):
        sign(locked.decode(), BODY)


def test_signatures_are_those_of_rfc_8032() -> None:
    """RFC 8032, section 7.1, test 2."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    verify([base64.b64encode(public).decode()], b"\x72", signature)


@openssl
def test_openssl_verifies_our_signature_and_we_verify_openssls(tmp_path: Path) -> None:
    def run(*arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, capture_output=True, check=True).stdout

    (tmp_path / "key").write_text(KEY)
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "ours").write_bytes(sign(KEY, BODY))
    run("pkey", "-in", "key", "-pubout", "-out", "public")
    assert run("pkey", "-in", "key", "-pubout", "-outform", "DER")[-32:] == base64.b64decode(LINE)
    verified = run("pkeyutl", "-verify", "-pubin", "-inkey", "public", "-rawin", "-in", "body", "-sigfile", "ours")
    assert b"Signature Verified Successfully" in verified
    run("pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "body", "-out", "theirs")
    verify([LINE], BODY, (tmp_path / "theirs").read_bytes())
