"""Certificates: where ours lie, what stands in one, whether this machine trusts it, and mkcert, which issues them.

A pair of certificate and key is read by shaking hands with oneself in memory: so everything that would keep a server
from using it is found, in OpenSSL's own words, and no second library for certificates is needed. Never asks a person,
not even for a key's passphrase; never listens, never calls another machine. mkcert is the one program it runs.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import platformdirs

from .private import make_folder, replace_private

__all__ = [
    "RENEW_DAYS",
    "Cert",
    "CertError",
    "Pair",
    "ca_file",
    "ca_folder",
    "client_context",
    "find_mkcert",
    "folder",
    "has_ca",
    "issue",
    "missing_names",
    "names_for",
    "own_pair",
    "pin",
    "read",
    "remove",
    "server_context",
    "trusted",
]

# A certificate with fewer days left is issued anew; Let's Encrypt's clients use the same number.
RENEW_DAYS = 30
DAY = 86400.0

CERT, KEY, CA, SERVED = "cert.pem", "key.pem", "ca.pem", "served.pem"
# A new pair is made in a folder DRAFT…, which is renamed to READY when all of it is there.
READY, DRAFT = "ready", "draft-"
# A draft that old (seconds) was left by a run that was killed.
LEFT = 3600.0
# Making a key takes mkcert well under a second; a trust store that is asked may take longer.
PATIENCE = 60.0

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python gives no name: an expired certificate can be read, too.
# https://docs.openssl.org/3.0/man3/X509_VERIFY_PARAM_set_flags/
NO_CHECK_TIME = 0x200000

# Where the systems keep what they trust, beside the place that Python was built for.
# https://go.dev/src/crypto/x509/root_linux.go
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

HOW_TO_GET = """mkcert is not installed. It makes certificates that this machine trusts. Get it with
  Debian, Ubuntu   sudo apt install mkcert libnss3-tools
  Fedora           sudo dnf install mkcert nss-tools
  macOS            brew install mkcert nss
  Windows          choco install mkcert   or   scoop bucket add extras && scoop install mkcert
and then run `oproxy cert install`. A certificate from elsewhere goes into cert and key under [tls], mode = "files"."""

# What mkcert takes for a host name. https://github.com/FiloSottile/mkcert/blob/v1.4.4/main.go
HOST_NAME = re.compile(r"(?i)(\*\.)?[0-9a-z_-]([0-9a-z._-]*[0-9a-z_-])?")


class CertError(Exception):
    """A certificate cannot be used or had. `message` is for the person and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Pair(NamedTuple):
    """A certificate with its chain and its private key, both PEM files."""

    cert: Path
    key: Path


class Cert(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a certificate. Times are epoch seconds; addresses are in their short form (`::1`)."""

    names: tuple[str, ...]
    issuer: str
    serial: str
    start: float
    end: float

    def days_left(self, now: float) -> float:
        """Return the days until it expires; negative once it has."""
        return (self.end - now) / DAY


# --- our own files ------------------------------------------------------------------------------------------------


def folder() -> Path:
    """Return the folder of our own certificate. XDG_DATA_HOME moves it (Linux)."""
    return Path(platformdirs.user_data_path("oproxy")) / "tls"


def own_pair(where: Path | None = None) -> Pair:
    """Return the paths of the pair that mkcert issued for us, whether it is there or not."""
    where = where or folder()
    settle(where)
    return Pair(where / CERT, where / KEY)


def ca_file() -> Path | None:
    """Return the certificate of the CA that issued ours, for clients that must be told; None before there is one."""
    path = folder() / CA
    return path if path.exists() else None


def prepare(where: Path) -> None:
    make_folder(where)
    where.chmod(0o700)


def settle(where: Path) -> None:
    """Finish what a killed run had begun to put in place: a pair that is ready is taken whole."""
    ready = where / READY
    if not ready.is_dir():
        return
    for name in (CA, KEY, CERT):
        try:
            (ready / name).replace(where / name)
        except FileNotFoundError:
            # It is in its place already, or another process is about the same.
            continue
    shutil.rmtree(ready, ignore_errors=True)


def pin(pair: Pair, where: Path | None = None) -> None:
    """Keep a copy of the certificate that the daemon serves, so that our own commands know it is the daemon's. Without
    the chain: whoever trusts that would trust everybody else's certificate of the same issuer. Raises OSError."""
    where = where or folder()
    prepare(where)
    data = handshake(server_context(pair), pinned(pair.cert)).getpeercert(binary_form=True)
    replace_private(where / SERVED, ssl.DER_cert_to_PEM_cert(data or b"").encode())


def remove(where: Path | None = None) -> bool:
    """Remove our own pair; return whether there was one."""
    where = where or folder()
    settle(where)
    found = False
    for name in (CERT, KEY, CA, SERVED):
        try:
            (where / name).unlink()
        except FileNotFoundError:
            continue
        found = found or name in (CERT, KEY)
    return found


# --- reading ------------------------------------------------------------------------------------------------------


def server_context(pair: Pair) -> ssl.SSLContext:
    """Return what a server speaks TLS with. Raises CertError when the pair cannot be used."""
    for path, word in zip(pair, ("CERTIFICATE", "PRIVATE KEY"), strict=True):
        try:
            text = path.read_bytes()
        except OSError as exc:
            raise CertError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
        if f"{word}-----".encode() not in text:
            raise CertError(f"{path} holds no {word.lower()} in PEM form (a line `-----BEGIN {word}-----`).")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse() -> str:
        raise CertError(
            f"{pair.key} is protected by a passphrase, and a daemon has nobody to ask. Take a copy without one: "
            f"openssl pkey -in {pair.key} -out plain-key.pem"
        )

    try:
        context.load_cert_chain(pair.cert, pair.key, password=refuse)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise CertError(why_not(exc, pair)) from exc
    return context


def why_not(exc: Exception, pair: Pair) -> str:
    reason = getattr(exc, "reason", None) or str(exc)
    # The last is said of a key of another kind: OpenSSL then looks for a certificate of that kind.
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return f"The key {pair.key} does not belong to the certificate {pair.cert}."
    words = reason.replace("_", " ").lower()
    return f"The certificate {pair.cert} with the key {pair.key} cannot be used: {words}."


def read(pair: Pair) -> Cert:
    """Return what stands in a pair's certificate, expired or not. Raises CertError when a server could not use it."""
    server = server_context(pair)
    client = pinned(pair.cert)
    try:
        found: Mapping[str, Any] = handshake(server, client).getpeercert() or {}
    except ssl.SSLError as exc:
        raise CertError(why_not(exc, pair)) from exc
    issuer = {key: value for row in found["issuer"] for key, value in row}
    return Cert(
        names=tuple(plain(value) for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
        issuer=issuer.get("commonName") or issuer.get("organizationName") or "unknown",
        serial=found["serialNumber"],
        start=ssl.cert_time_to_seconds(found["notBefore"]),
        end=ssl.cert_time_to_seconds(found["notAfter"]),
    )


def pinned(cert: Path) -> ssl.SSLContext:
    """Return what a client trusts this one certificate with, whatever its name and time, and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(NO_CHECK_TIME)
    try:
        context.load_verify_locations(cert)
    except (ssl.SSLError, OSError) as exc:
        raise CertError(f"{cert} holds no certificate that can be read.") from exc
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Let both shake hands in memory; return the client's end, which has verified the server's certificate.

    Raises ssl.SSLError.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    # Two flights each way are all that a handshake has.
    for _ in range(4):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near


def trusted(pair: Pair, roots: Sequence[Path] | None = None) -> bool:
    """Return whether programs of this machine accept the pair: its chain leads to a root in the system's store (or in
    the files `roots`) and it has not expired. Which name it is asked for by plays no part."""
    if roots is None and sys.platform == "darwin":
        # The keychain, which is what programs ask there and Python does not.
        words = ("/usr/bin/security", "verify-cert", "-p", "ssl", "-c", str(pair.cert))
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if roots is None and sys.platform == "win32":
        context.load_default_certs()
    elif roots is None:
        # Not load_default_certs: SSL_CERT_FILE of this shell says nothing about the machine.
        places = ssl.get_default_verify_paths()
        roots = [Path(path) for path in (places.openssl_cafile, *BUNDLES)]
    for root in roots or ():
        if root.is_file():
            context.load_verify_locations(root)
    try:
        handshake(server_context(pair), context)
    except ssl.SSLError:
        return False
    return True


def client_context(url: str) -> ssl.SSLContext | None:
    """Return what our own commands reach the running daemon with: they trust the very certificate that it serves, by
    whatever name or address it is called. None: nothing special is needed, as for plain HTTP."""
    served = folder() / SERVED
    if not url.startswith("https:") or not served.exists():
        return None
    return pinned(served)


# --- names --------------------------------------------------------------------------------------------------------


def plain(name: str) -> str:
    """Write a name or address in the one form in which it is compared."""
    name = name.strip().lower().removesuffix(".")
    try:
        return ipaddress.ip_address(name.strip("[]")).compressed
    except ValueError:
        pass
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def names_for(extra: Iterable[str] = (), host: str = "") -> tuple[str, ...]:
    """Return what our certificate is for: this machine's own names, the address listened on, and `extra`."""
    name = plain(socket.gethostname())
    short = name.partition(".")[0]
    machine = [each for each in (name, short, f"{short}.local") if short and HOST_NAME.fullmatch(each)]
    host = plain(host)
    listened = [host] if host not in ("", "0.0.0.0", "::") else []
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "::1", *machine, *listened, *(plain(n) for n in extra)]))


def missing_names(cert: Cert, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the names the certificate is not for."""
    return tuple(name for name in names if name not in cert.names)


# --- mkcert -------------------------------------------------------------------------------------------------------


def find_mkcert() -> str:
    """Return the path of the mkcert program. Raises CertError that says how to get it."""
    found = shutil.which("mkcert")
    if found is None:
        raise CertError(HOW_TO_GET)
    return found


def ca_folder(program: str) -> Path:
    """Return where mkcert keeps its CA."""
    return Path(mkcert(program, "-CAROOT").strip())


def has_ca(program: str) -> bool:
    """Return whether mkcert has made its CA. It makes one unasked when it issues; nobody would trust that one yet."""
    where = ca_folder(program)
    return (where / "rootCA.pem").exists() and (where / "rootCA-key.pem").exists()


def mkcert(program: str, *args: str) -> str:
    """Run mkcert without a terminal and return what it prints. Raises CertError with its last words."""
    try:
        done = subprocess.run(
            [program, *args], capture_output=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CertError(f"{program} could not be run: {exc}") from exc
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CertError(f"mkcert refused: {words[-1] if words else f'exit status {done.returncode}'}")
    return done.stdout


def issue(program: str, names: Sequence[str], where: Path | None = None) -> Cert:
    """Let mkcert issue a certificate for these names and put it in place of ours, all at once: whenever this is killed,
    there is the old pair or the new one. Raises CertError; the old pair is then as it was."""
    where = where or folder()
    try:
        prepare(where)
        sweep(where)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=where))
    except OSError as exc:
        raise CertError(f"{where} cannot be written: {exc.strerror or exc}.") from exc
    pair = Pair(draft / CERT, draft / KEY)
    try:
        mkcert(program, "-cert-file", str(pair.cert), "-key-file", str(pair.key), *names)
        shutil.copyfile(ca_folder(program) / "rootCA.pem", draft / CA)
        for path in (*pair, draft / CA):
            path.chmod(0o600)
        cert = read(pair)
        settle(where)
        draft.rename(where / READY)
        settle(where)
    except OSError as exc:
        raise CertError(f"{where} cannot be written: {exc.strerror or exc}.") from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return cert


def sweep(where: Path) -> None:
    """Remove the drafts of runs that were killed."""
    for draft in where.glob(f"{DRAFT}*"):
        if time.time() - draft.stat().st_mtime > LEFT:
            shutil.rmtree(draft, ignore_errors=True)
