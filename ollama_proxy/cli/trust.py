"""By which environment variables programs are told to trust our certificate. Only looks; `certs` issues and installs.

The variables name a program's whole list of authorities (NODE_EXTRA_CA_CERTS alone adds to it), so where the system's
own list has our authority already, that list is named, and nothing else stops being trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import certs
from ..sections import Tls

__all__ = ["ca_variables"]


def ca_variables(tls: Tls, *, needed: bool, lists: Iterable[str] = certs.BUNDLES) -> dict[str, str]:
    """Return what programs must be told; nothing where HTTPS is off or the certificate is not of our making.

    Python's `ssl` and httpx read SSL_CERT_FILE, requests REQUESTS_CA_BUNDLE, Node NODE_EXTRA_CA_CERTS. Where no list of
    the system has our authority, the first two would make programs trust nothing else: they are then left out unless
    `needed`, that is, unless there is no plain HTTP beside. `lists` are the files the system may keep its list in.
    """
    if tls.mode != "mkcert" or (root := certs.ca_file()) is None:
        return {}
    whole = next((name for name in lists if holds(Path(name), root)), str(root) if needed else None)
    named = {"SSL_CERT_FILE": whole, "REQUESTS_CA_BUNDLE": whole} if whole is not None else {}
    return {**named, "NODE_EXTRA_CA_CERTS": str(root)}


def holds(listed: Path, root: Path) -> bool:
    """Return whether a list of authorities has this one."""
    try:
        return "".join(root.read_text("ascii").split()) in "".join(listed.read_text("utf-8", "replace").split())
    except (OSError, UnicodeDecodeError):
        return False
