"""Which certificate authority a program must be told to trust for our HTTPS, and by which environment variables.

Only looks; issuing certificates is not its business. The variables replace a program's whole list of authorities
(NODE_EXTRA_CA_CERTS alone adds to it), so where the system's own list has the authority already, that list is named.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

from ..sections import Tls

__all__ = ["authority", "ca_variables"]

# Where the systems keep all the authorities they trust as one file: Debian, Fedora, openSUSE, Alpine.
SYSTEM_LISTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def authority(env: Mapping[str, str] = os.environ) -> Path | None:
    """Return mkcert's authority on this machine, None where there is none. The folder is mkcert's own rule:
    https://github.com/FiloSottile/mkcert#changing-the-location-of-the-ca-files"""
    folder = Path(env["CAROOT"]) if env.get("CAROOT") else usual_folder(env)
    file = folder / "rootCA.pem"
    return file if file.is_file() else None


def usual_folder(env: Mapping[str, str]) -> Path:
    home = Path(env.get("HOME") or Path.home())
    if sys.platform == "win32":
        return Path(env.get("LOCALAPPDATA", home)) / "mkcert"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "mkcert"
    return Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "mkcert"


def system_list() -> Path | None:
    """Return the file with the authorities that the system trusts."""
    known = (ssl.get_default_verify_paths().cafile, *SYSTEM_LISTS)
    return next((Path(name) for name in known if name and Path(name).is_file()), None)


def ca_variables(tls: Tls, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what programs must be told to trust our certificate; nothing where it is one that all trust, or ours to
    know not. Python's `ssl` and httpx read SSL_CERT_FILE, requests REQUESTS_CA_BUNDLE, Node NODE_EXTRA_CA_CERTS."""
    if tls.mode != "mkcert" or (root := authority(env)) is None:
        return {}
    listed = system_list()
    whole = listed if listed is not None and holds(listed, root) else root
    return {"SSL_CERT_FILE": str(whole), "REQUESTS_CA_BUNDLE": str(whole), "NODE_EXTRA_CA_CERTS": str(root)}


def holds(listed: Path, root: Path) -> bool:
    """Return whether a list of authorities has this one."""
    try:
        return "".join(root.read_text("ascii").split()) in "".join(listed.read_text("utf-8", "replace").split())
    except (OSError, UnicodeDecodeError):
        return False
