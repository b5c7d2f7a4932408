"""TLS configurations from PEM text, and who stands at the other end of a verified connection.

pynng has no attribute for a peer's certificate; NNG's pipe options (nng_tls_options(5)) are read through its library.

TLS 1.2 it is, on both sides. Mbed TLS keeps the keys of a TLS 1.3 handshake in global slots that only a build with
MBEDTLS_THREADING_C guards, pynng's wheel (0.9.0) is built without, and NNG runs handshakes in several threads: at TLS
1.3 one dial in sixty failed here, and worse is on record (Mbed-TLS issues 7979 and 9991). At TLS 1.2 none of 450 did.
"""

from typing import Any, Final

import msgspec
import pynng
from pynng import TLSConfig, ffi, lib

from nanoexec.errors import IdentityError, UnavailableError
from nanoexec.model import Credentials, Identifier, NodeName
from nanoexec.transport import Peer

_POINTER: Final = ffi.sizeof("char *")


def hub_side(credentials: Credentials) -> Any:
    """For a listener that lets in only certificates of its own CA. Raises `IdentityError`."""
    return _config(TLSConfig.MODE_SERVER, TLSConfig.AUTH_MODE_REQUIRED, credentials)


def node_side(credentials: Credentials, hub_name: str) -> Any:
    """For dialling a hub that must prove ``hub_name`` by a certificate of the CA. Raises `IdentityError`."""
    return _config(TLSConfig.MODE_CLIENT, TLSConfig.AUTH_MODE_REQUIRED, credentials, hub_name)


def open_side(credentials: Credentials) -> Any:
    """For a listener that shows its certificate and asks for none. Raises `IdentityError`."""
    return _config(TLSConfig.MODE_SERVER, TLSConfig.AUTH_MODE_NONE, credentials)


def stranger_side(ca: str | None, hub_name: str) -> Any:
    """For dialling without a certificate: with ``ca`` the hub must prove its name, without it nobody is verified.

    Raises `IdentityError`.
    """
    if ca is None:
        return _config(TLSConfig.MODE_CLIENT, TLSConfig.AUTH_MODE_NONE, None, hub_name)
    return _config(TLSConfig.MODE_CLIENT, TLSConfig.AUTH_MODE_REQUIRED, Credentials(ca=ca), hub_name)


def verified_peer(pipe: Any) -> Peer | None:
    """The node that a pipe's certificate names: CN is the certificate's id, the one SAN the node's name.

    None for a certificate that was not verified or is not of that form. May be called in NNG's threads.
    """
    verified = ffi.new("bool *")
    if lib.nng_pipe_get_bool(pipe.pipe, b"tls-verified", verified) or not verified[0]:
        return None
    names = _alternative_names(pipe)
    try:
        (name,) = msgspec.convert(names, tuple[NodeName])
        return Peer(name=name, key=msgspec.convert(_common_name(pipe), Identifier))
    except msgspec.ValidationError:
        return None


def _config(mode: Any, authentication: Any, credentials: Credentials | None, server_name: str | None = None) -> Any:
    """Raises `IdentityError`, and `UnavailableError` when this process can open nothing more."""
    try:
        config = TLSConfig(mode, server_name=server_name)
        # Set by name: the constructor takes AUTH_MODE_NONE, which is 0, for "not given", and a client then verifies.
        config.set_auth_mode(authentication)
        pynng.check_err(lib.nng_tls_config_version(config._tls_config, lib.NNG_TLS_1_2, lib.NNG_TLS_1_2))  # noqa: SLF001
        if credentials and credentials.ca:
            config.set_ca_chain(credentials.ca)
        if credentials and credentials.certificate:
            config.set_own_cert(credentials.certificate, credentials.key)
    except pynng.OutOfFiles:  # it says nothing of the credentials
        raise UnavailableError("TLS cannot be set up: no file descriptor is left") from None
    except pynng.NNGException as error:
        raise IdentityError(
            f"the CA, certificate or key cannot be used for TLS ({error}): expected PEM, and the certificate's own key"
        ) from None
    return config


def _common_name(pipe: Any) -> str:
    out = ffi.new("char **")
    if lib.nng_pipe_get_string(pipe.pipe, b"tls-peer-cn", out) or out[0] == ffi.NULL:
        return ""
    try:
        return _text(out[0])
    finally:
        lib.nng_strfree(out[0])


def _alternative_names(pipe: Any) -> list[str]:
    """NNG gives an array that ends with NULL; the strings and the array are the caller's to free."""
    out = ffi.new("void **")
    if lib.nng_pipe_get_ptr(pipe.pipe, b"tls-peer-alt-names", out) or out[0] == ffi.NULL:
        return []
    array = ffi.cast("char **", out[0])
    names: list[str] = []
    while (entry := array[len(names)]) != ffi.NULL:
        names.append(_text(entry))
        lib.nng_strfree(entry)
    lib.nng_free(out[0], (len(names) + 1) * _POINTER)
    return names


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode(errors="replace"))
