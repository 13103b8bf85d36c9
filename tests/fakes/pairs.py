"""Certificates with their keys for tests, made by the openssl program; and whom a client meets over TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from ollama_proxy.certs import Pair

__all__ = ["copy_pair", "make_dated_pair", "make_pair", "mkcert_only_here", "trusting"]

KINDS = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "rsa": ("-newkey", "rsa:2048"),
}
# What `openssl ca` wants to know before it signs with dates of our choice.
CA = """
[ca]
default_ca = here
[here]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = policy
copy_extensions = copy
[policy]
commonName = supplied
"""


def openssl(*args: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    subprocess.run([program, *args], check=True, capture_output=True)


def make_pair(
    folder: Path, name: str = "first", *, kind: str = "ec", names: str = "DNS:localhost,IP:127.0.0.1", secret: str = ""
) -> Pair:
    """Make a certificate that signs itself, good for a day; `name` is its common name and that of the files."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    locked = ("-passout", f"pass:{secret}") if secret else ("-nodes",)
    openssl(
        "req", "-x509", *KINDS[kind], *locked, "-days", "1", "-subj", f"/CN={name}", "-addext",
        f"subjectAltName={names}", "-keyout", str(pair.key), "-out", str(pair.cert),
    )  # fmt: skip
    return pair


def make_dated_pair(folder: Path, start: str, end: str) -> Pair:
    """Make a certificate good from `start` to `end` (YYYYMMDDhhmmssZ)."""
    pair = Pair(folder / "dated.pem", folder / "dated-key.pem")
    (folder / "index").write_text("")
    (folder / "serial").write_text("01")
    (folder / "ca.cnf").write_text(CA.format(folder=folder))
    csr = str(folder / "dated.csr")
    openssl(
        "req", "-new", *KINDS["ec"], "-nodes", "-subj", "/CN=dated", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(pair.key), "-out", csr,
    )  # fmt: skip
    openssl(
        "ca", "-batch", "-notext", "-config", str(folder / "ca.cnf"), "-selfsign", "-keyfile", str(pair.key),
        "-in", csr, "-out", str(pair.cert), "-startdate", start, "-enddate", end,
    )  # fmt: skip
    return pair


def copy_pair(source: Pair, target: Pair) -> None:
    """Put a pair in another's place as certbot and lego do: each file is replaced, one after the other."""
    for mine, place in zip(source, target, strict=True):
        draft = place.with_suffix(".new")
        shutil.copyfile(mine, draft)
        draft.replace(place)


def trusting(*pairs: Pair) -> ssl.SSLContext:
    """Return what a client trusts these certificates with."""
    context = ssl.create_default_context(cafile=str(pairs[0].cert))
    for pair in pairs[1:]:
        context.load_verify_locations(pair.cert)
    return context


def mkcert_only_here(folder: Path) -> dict[str, str]:
    """Return the environment in which mkcert has a CA of its own and leaves this machine's trust stores alone."""
    if shutil.which("mkcert") is None:
        pytest.skip("mkcert is not installed")
    return {"CAROOT": str(folder / "caroot"), "TRUST_STORES": "none"}
