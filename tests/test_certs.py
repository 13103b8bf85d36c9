"""Certificates: reading, refusing, trusting, and issuing by the real mkcert."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ollama_proxy import certs
from ollama_proxy.certs import Cert, CertError, Pair
from tests.fakes.pairs import make_dated_pair, make_pair, mkcert_only_here

DAY = 86400.0


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


@pytest.fixture(scope="module")
def caroot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    env = mkcert_only_here(tmp_path_factory.mktemp("mkcert"))
    subprocess.run([certs.find_mkcert(), "-install"], check=True, capture_output=True, env={**os.environ, **env})
    return env


@pytest.fixture
def mkcert(caroot: dict[str, str]) -> str:
    """A mkcert with a CA of its own, which is in no trust store."""
    os.environ |= caroot
    return certs.find_mkcert()


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_what_stands_in_a_certificate_is_read(tmp_path: Path, kind: str) -> None:
    cert = certs.read(make_pair(tmp_path, "box", kind=kind, names="DNS:localhost,DNS:*.box.lan,IP:::1"))

    assert cert.names == ("localhost", "*.box.lan", "::1")
    assert cert.issuer == "box"
    assert 0.9 < cert.days_left(time.time()) <= 1
    assert cert.end - cert.start == DAY


def test_an_expired_certificate_can_be_read_but_is_not_trusted(tmp_path: Path) -> None:
    pair = make_dated_pair(tmp_path, "20200101000000Z", "20200201000000Z")
    cert = certs.read(pair)

    assert (cert.start, cert.end) == (1577836800, 1580515200)
    assert cert.days_left(1580515200 + DAY) == -1
    assert not certs.trusted(pair, [pair.cert])


def test_a_chain_behind_the_certificate_does_not_confuse_reading(tmp_path: Path, pair: Pair) -> None:
    other = make_pair(tmp_path, "other", names="DNS:other")
    pair.cert.write_bytes(pair.cert.read_bytes() + other.cert.read_bytes())

    assert certs.read(pair).names == ("localhost", "127.0.0.1")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, pair: Pair) -> None:
    for kind in ("ec", "rsa"):
        other = make_pair(tmp_path, f"other-{kind}", kind=kind)
        with pytest.raises(CertError, match="does not belong to the certificate"):
            certs.read(Pair(pair.cert, other.key))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    locked = make_pair(tmp_path, "locked", secret="hush")
    with pytest.raises(CertError, match=r"passphrase.*openssl pkey"):
        certs.read(locked)


def test_files_that_are_no_pem_or_swapped_are_told_apart(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(CertError, match="holds no certificate in PEM form"):
        certs.read(Pair(pair.key, pair.cert))
    with pytest.raises(CertError, match="holds no private key in PEM form"):
        certs.read(Pair(pair.cert, pair.cert))
    with pytest.raises(CertError, match=r"nowhere\.pem cannot be read: No such file"):
        certs.read(Pair(tmp_path / "nowhere.pem", pair.key))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.97])
def test_a_half_written_certificate_is_refused(pair: Pair, keep: float) -> None:
    whole = pair.cert.read_bytes()
    pair.cert.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CertError):
        certs.read(pair)


def test_a_server_speaks_tls_1_2_at_least(pair: Pair) -> None:
    server = certs.server_context(pair)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.load_verify_locations(pair.cert)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert certs.handshake(server, old).version() == "TLSv1.2"
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_certificate_is_trusted_by_whoever_has_its_root(tmp_path: Path, pair: Pair) -> None:
    other = make_pair(tmp_path, "other")
    assert certs.trusted(pair, [pair.cert])
    assert not certs.trusted(pair, [other.cert, tmp_path / "nowhere.pem"])
    assert not certs.trusted(pair)


def test_the_shells_own_list_of_roots_says_nothing_about_the_machine(pair: Pair) -> None:
    os.environ["SSL_CERT_FILE"] = str(pair.cert)
    assert not certs.trusted(pair)


# --- our own commands ---------------------------------------------------------------------------------------------


def test_our_own_commands_trust_the_served_certificate_alone(tmp_path: Path, pair: Pair) -> None:
    # The other one is in the served chain, and still is not trusted.
    other = make_pair(tmp_path, "other")
    chain = Pair(tmp_path / "chain.pem", pair.key)
    chain.cert.write_bytes(pair.cert.read_bytes() + other.cert.read_bytes())
    certs.pin(chain)

    client = certs.client_context("https://127.0.0.1:1")
    assert client is not None
    assert certs.handshake(certs.server_context(pair), client).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        certs.handshake(certs.server_context(other), client)


def test_our_own_commands_need_nothing_for_http_or_before_there_is_https(pair: Pair) -> None:
    assert certs.client_context("https://127.0.0.1:1") is None
    certs.pin(pair)
    assert certs.client_context("http://127.0.0.1:1") is None


# --- names --------------------------------------------------------------------------------------------------------


def test_the_names_are_the_machines_own_the_address_and_what_is_given_each_once() -> None:
    names = certs.names_for(["AI.lan.", "[FE80::0:1]", "localhost", "müller.lan"], "192.168.1.5")

    assert names[:3] == ("localhost", "127.0.0.1", "::1")
    assert names[-4:] == ("192.168.1.5", "ai.lan", "fe80::1", "xn--mller-kva.lan")
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "127.0.0.1"])
def test_an_address_that_stands_for_all_is_no_name(host: str) -> None:
    assert certs.names_for((), host) == certs.names_for()


def test_the_names_a_certificate_lacks_are_told() -> None:
    cert = Cert(names=("localhost", "::1"), issuer="", serial="", start=0, end=0)
    assert certs.missing_names(cert, ("localhost", "::1", "box")) == ("box",)


# --- mkcert -------------------------------------------------------------------------------------------------------


def test_without_mkcert_it_is_told_how_to_get_it(tmp_path: Path) -> None:
    os.environ["PATH"] = str(tmp_path)
    with pytest.raises(CertError) as missing:
        certs.find_mkcert()
    for words in ("apt install mkcert", "dnf install mkcert", "brew install mkcert", "choco install mkcert", "scoop"):
        assert words in missing.value.message


def test_mkcert_issues_a_pair_that_its_ca_vouches_for(mkcert: str) -> None:
    assert certs.has_ca(mkcert)
    cert = certs.issue(mkcert, certs.names_for(["ai.lan", "müller.lan"]))

    assert not certs.missing_names(cert, certs.names_for(["ai.lan", "müller.lan"]))
    assert cert == certs.read(certs.own_pair())
    assert cert.days_left(time.time()) > 365
    ca = certs.ca_file()
    assert ca is not None
    assert certs.trusted(certs.own_pair(), [ca])
    assert not certs.trusted(certs.own_pair())


def test_what_is_issued_is_for_its_owner_alone_and_leaves_nothing_beside(mkcert: str) -> None:
    certs.issue(mkcert, ["localhost"])
    where = certs.folder()

    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in where.iterdir()} == {
        "cert.pem": 0o600, "key.pem": 0o600, "ca.pem": 0o600,
    }  # fmt: skip


def test_a_refusal_of_mkcert_is_told_in_its_words_and_changes_nothing(mkcert: str) -> None:
    before = certs.issue(mkcert, ["localhost"])
    with pytest.raises(CertError, match=r"mkcert refused: .*not a valid hostname"):
        certs.issue(mkcert, ["not a name!"])
    assert certs.read(certs.own_pair()) == before
    assert len(list(certs.folder().iterdir())) == 3


def test_a_pair_that_was_ready_when_the_run_was_killed_is_put_in_place(mkcert: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    certs.issue(mkcert, ["localhost"], old)
    want = certs.issue(mkcert, ["localhost"], new)
    files = ("ca.pem", "key.pem", "cert.pem")
    # Every way in which the three moves can have been cut off.
    for moved in range(4):
        where = shutil.copytree(old, tmp_path / f"cut{moved}")
        (where / "ready").mkdir()
        for index, name in enumerate(files):
            shutil.copy(new / name, where if index < moved else where / "ready")

        assert certs.read(certs.own_pair(where)) == want
        assert sorted(path.name for path in where.iterdir()) == sorted(files)


def test_a_run_that_is_killed_while_mkcert_works_leaves_the_old_pair(mkcert: str, tmp_path: Path) -> None:
    before = certs.issue(mkcert, ["localhost"])
    # A mkcert that writes the certificate, and then takes for ever.
    slow = tmp_path / "bin" / "mkcert"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\n"{mkcert}" "$@" && echo written >&2 && kill -9 $PPID\n')
    slow.chmod(0o755)
    code = f"from ollama_proxy import certs; certs.issue({str(slow)!r}, ['localhost'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)

    assert done.returncode == -signal.SIGKILL
    left = list(certs.folder().glob("draft-*"))
    assert left
    assert certs.read(certs.own_pair()) == before
    # A later run takes away what was left, once it is old.
    for draft in left:
        os.utime(draft, (0, 0))
    assert certs.issue(mkcert, ["localhost"]) != before
    assert not list(certs.folder().glob("draft-*"))


def test_removing_takes_all_of_it_and_says_whether_there_was_any(mkcert: str) -> None:
    assert not certs.remove()
    certs.issue(mkcert, ["localhost"])
    certs.pin(certs.own_pair())
    assert certs.remove()
    assert list(certs.folder().iterdir()) == []
    assert certs.ca_file() is None
