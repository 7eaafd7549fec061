"""What a listener's certificate looks like to whoever connects."""

from __future__ import annotations

import socket
import ssl

PATIENCE_S = 5.0
# OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, which the ssl module does not name.
HAS_EXPIRED = 10


def trusting(ca: str, certificate: str) -> ssl.SSLContext:
    """A client with these PEM files, that takes a listener by any name; raises OSError."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate)
    context.check_hostname = False
    return context


def has_ended(address: str, port: int, context: ssl.SSLContext) -> bool:
    """Whether the listener shows a certificate that has ended, or one whose CA has.

    One that does not answer, or is refused for another reason, has not.
    """
    try:
        with (
            socket.create_connection((address, port), PATIENCE_S) as plain,
            context.wrap_socket(plain),
        ):
            return False
    except ssl.SSLCertVerificationError as refusal:
        return refusal.verify_code == HAS_EXPIRED
    except OSError:
        return False
