"""`oproxy cert` with the real mkcert, whose CA is made for the test and put into no trust store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy import certs
from ollama_proxy.settings import default_path
from tests.fakes.pairs import make_dated_pair, make_pair, mkcert_only_here


@pytest.fixture
def mkcert(tmp_path: Path) -> None:
    os.environ |= mkcert_only_here(tmp_path)


def cert(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ollama_proxy", "cert", *args], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def configure(text: str) -> None:
    default_path().parent.mkdir(parents=True, exist_ok=True)
    default_path().write_text(text)


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cert("status", "--json").stdout)
    return found


def test_a_certificate_is_installed_shown_renewed_and_removed(mkcert: None) -> None:
    configure('[tls]\nmode = "mkcert"\nnames = ["ai.lan"]\n')
    done = cert("install")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{certs.own_pair().cert}\n"
    assert "Created a new local CA" in done.stderr
    assert "ai.lan" in done.stderr
    assert "oproxy serve --https" in done.stderr

    shown = cert("status")
    assert shown.returncode == 0
    for words in ("ai.lan", "127.0.0.1", "mkcert", "days left", str(certs.own_pair().cert), str(certs.ca_file())):
        assert words in shown.stdout
    before = status()
    assert before["days_left"] > 365
    assert (before["trusted"], before["missing"], before["problem"]) == (False, [], "")

    configure('[tls]\nmode = "mkcert"\nnames = ["other.lan"]\n')
    assert status()["missing"] == ["other.lan"]
    assert "other.lan" in cert("status").stderr
    assert cert("renew").returncode == 0
    after = status()
    assert "other.lan" in after["names"]
    assert "ai.lan" not in after["names"]

    assert cert("uninstall").returncode == 0
    assert cert("status").returncode == 1
    assert "no certificate" in cert("uninstall").stderr


def test_without_trust_the_trust_stores_are_not_touched_and_a_ca_is_there_all_the_same(mkcert: None) -> None:
    done = cert("install", "--no-trust")
    assert done.returncode == 0
    assert "Created a new local CA" not in done.stderr
    assert certs.ca_file() is not None


def test_a_mkcert_that_fails_ends_the_install_with_its_words(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "mkcert"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    program.chmod(0o755)
    os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    done = cert("install")

    assert (done.returncode, done.stdout) == (1, "")
    assert "a password is required" in done.stderr
    assert "--no-trust" in done.stderr
    assert not certs.own_pair().cert.exists()


@pytest.mark.parametrize("command", ["install", "renew"])
def test_without_mkcert_it_is_told_how_to_get_it(tmp_path: Path, command: str) -> None:
    os.environ["PATH"] = str(tmp_path)
    done = cert(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt install mkcert" in done.stderr


def test_renewing_without_a_ca_says_to_install(mkcert: None) -> None:
    done = cert("renew")
    assert done.returncode == 1
    assert "oproxy cert install" in done.stderr


def test_without_a_certificate_the_status_is_1_and_says_what_to_do(tmp_path: Path) -> None:
    done = cert("status")
    assert done.returncode == 1
    assert "oproxy cert install" in done.stderr
    assert status()["problem"] != ""


def test_the_status_of_ones_own_files_is_shown(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    configure(f'[tls]\nmode = "files"\ncert = "{pair.cert}"\nkey = "{pair.key}"\n')
    found = status()
    assert (found["mode"], found["cert"], found["ca"], found["missing"]) == ("files", str(pair.cert), None, [])
    assert found["names"] == ["localhost", "127.0.0.1"]

    other = make_dated_pair(tmp_path, "20200101000000Z", "20200201000000Z")
    configure(f'[tls]\nmode = "files"\ncert = "{other.cert}"\nkey = "{other.key}"\n')
    done = cert("status")
    assert done.returncode == 1
    assert "2020-02-01" in done.stdout
    assert "expired" in done.stderr

    configure(f'[tls]\nmode = "files"\ncert = "{other.cert}"\nkey = "{pair.key}"\n')
    assert "does not belong" in cert("status").stderr


def test_the_help_has_the_recipes_for_lets_encrypt() -> None:
    text = " ".join(cert("--help").stdout.split())
    for words in ("certbot certonly", "--deploy-hook", "lego --email", 'mode = "files"', "allowed_hosts"):
        assert words in text
