"""HTTPS as the clients of the world meet it: the daemon as a process, the real mkcert's certificate, and the official
SDKs, curl and Node with verification on. mkcert's CA is made for the test and put into no trust store.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai
import pytest

from tests.e2e.conftest import ENVIRONMENT, free_port
from tests.fakes.ollama import FakeOllama
from tests.fakes.pairs import copy_pair, make_pair, mkcert_only_here

ROOT = Path(__file__).parents[2]
# Whoever the developer trusts must not make a test pass.
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
ASK = [{"role": "user", "content": "Say hi."}]
SDK = """
import openai, sys
with openai.OpenAI(base_url=sys.argv[1], api_key="sk-test", max_retries=0, timeout=30) as client:
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "Say hi."}]}
    print(client.chat.completions.create(**asked).choices[0].message.role)
    print(sum(len(chunk.choices) for chunk in client.chat.completions.create(stream=True, **asked)) > 2)
"""
NODE = """
const asked = {model: "smollm2", messages: [{role: "user", content: "Say hi."}]};
const headers = {"content-type": "application/json"};
fetch(process.argv[1] + "/chat/completions", {method: "POST", headers, body: JSON.stringify(asked)})
  .then(async answer => console.log((await answer.json()).choices[0].message.role))
  .catch(error => { console.error(error.cause?.code ?? error); process.exit(7); });
"""


class Served(NamedTuple):
    """A running daemon: its URLs (with /v1), the file of its CA, its environment and what it has said."""

    http: str
    https: str
    ca: Path
    env: dict[str, str]
    child: subprocess.Popen[str]
    lines: list[str]

    def until(self, pattern: str) -> str:
        """Read the daemon's lines until one has the pattern; return it."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")


@pytest.fixture(scope="module")
def ollama() -> Iterator[str]:
    """A fake Ollama on a loop of its own; yields its URL."""
    loop, fake = asyncio.new_event_loop(), FakeOllama()
    loop.run_until_complete(fake.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield fake.url
    asyncio.run_coroutine_threadsafe(fake.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def environment(folder: Path) -> dict[str, str]:
    env = {key: value for key, value in ENVIRONMENT.items() if not key.startswith(("OPROXY_", "OLLAMA_", "XDG_"))}
    env = {key: value for key, value in env.items() if key not in TRUST and not key.lower().endswith("_proxy")}
    return env | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}


def start(env: dict[str, str], ollama: str, *args: str) -> Served:
    http, https = free_port(), free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "ollama_proxy", "serve", "--port", str(http), "--backend", f"ollama={ollama}", *args],
        env={**env, "OPROXY_TLS_PORT": str(https)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    served = Served(
        f"http://127.0.0.1:{http}/v1", f"https://127.0.0.1:{https}/v1",
        Path(env["HOME"], ".local/share/oproxy/tls/ca.pem"), env, child, [],
    )  # fmt: skip
    served.until("listens on|Error|oproxy:")
    return served


def end(served: Served) -> int:
    served.child.send_signal(signal.SIGTERM)
    try:
        served.child.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        served.child.kill()
        raise
    return served.child.returncode


def oproxy(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ollama_proxy", *args], env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def served(ollama: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with HTTPS beside HTTP, by `oproxy cert install` and `oproxy serve --https`."""
    folder = tmp_path_factory.mktemp("https")
    env = environment(folder) | mkcert_only_here(folder)
    done = oproxy(env, "cert", "install")
    assert done.returncode == 0, done.stderr
    running = start(env, ollama, "--https")
    yield running
    assert end(running) == 0


def program(name: str) -> str:
    found = shutil.which(name, path=ENVIRONMENT.get("PATH"))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_both_urls_and_the_ca_are_told(served: Served) -> None:
    served.until("OPENAI_API_KEY")
    served.until("SSL_CERT_FILE")
    banner = "".join(served.lines)
    for words in (served.http, served.https, f"NODE_EXTRA_CA_CERTS={served.ca}", f"SSL_CERT_FILE={served.ca}"):
        assert words in banner


def test_http_goes_on_beside_https(served: Served) -> None:
    assert httpx2.get(f"{served.http}/models", trust_env=False).status_code == 200


def test_the_sdk_talks_with_verification_on_and_refuses_without_the_ca(served: Served) -> None:
    command = [sys.executable, "-c", SDK, served.https.replace("127.0.0.1", "localhost")]
    done = subprocess.run(command, env={**served.env, "SSL_CERT_FILE": str(served.ca)}, capture_output=True, text=True)
    assert done.stdout == "assistant\nTrue\n", done.stderr
    done = subprocess.run(command, env=served.env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


async def test_the_asynchronous_sdk_talks_over_a_client_of_ones_own(served: Served) -> None:
    context = ssl.create_default_context(cafile=str(served.ca))
    async with (
        httpx2.AsyncClient(verify=context, trust_env=False) as client,
        openai.AsyncOpenAI(base_url=served.https, api_key="sk-test", max_retries=0, http_client=client) as sdk,
    ):
        found = await sdk.models.list()
    assert any(model.id.startswith("smollm2") for model in found.data)


def test_the_2x_sdk_talks_with_verification_on_and_refuses_without_the_ca(served: Served) -> None:
    found = sorted(ROOT.glob(".venv-openai2/lib/python*/site-packages"))
    if not found:
        pytest.skip("openai 2.x is not installed: make sdk2")
    env = {**served.env, "PYTHONPATH": str(found[0])}
    version = [sys.executable, "-c", "import openai; print(openai.__version__)"]
    assert subprocess.run(version, env=env, capture_output=True, text=True).stdout.startswith("2.")
    command = [sys.executable, "-c", SDK, served.https]
    done = subprocess.run(command, env={**env, "SSL_CERT_FILE": str(served.ca)}, capture_output=True, text=True)
    assert done.stdout == "assistant\nTrue\n", done.stderr
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_curl_talks_with_verification_on_and_refuses_without_the_ca(served: Served) -> None:
    body = json.dumps({"model": "smollm2", "messages": ASK})
    for name in ("127.0.0.1", "localhost"):
        url = served.https.replace("127.0.0.1", name) + "/chat/completions"
        command = [program("curl"), "-sS", "--noproxy", "*", "-H", "content-type: application/json", "-d", body, url]
        done = subprocess.run([*command, "--cacert", str(served.ca)], env=served.env, capture_output=True, text=True)
        assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant", done.stderr
        # https://curl.se/libcurl/c/libcurl-errors.html: CURLE_PEER_FAILED_VERIFICATION
        assert subprocess.run(command, env=served.env, capture_output=True).returncode == 60


def test_node_talks_with_verification_on_and_refuses_without_the_ca(served: Served) -> None:
    command = [program("node"), "-e", NODE, served.https]
    done = subprocess.run(
        command, env={**served.env, "NODE_EXTRA_CA_CERTS": str(served.ca)}, capture_output=True, text=True
    )
    assert done.stdout == "assistant\n", done.stderr
    done = subprocess.run(command, env=served.env, capture_output=True, text=True)
    assert done.returncode == 7
    assert "UNABLE_TO_VERIFY_LEAF_SIGNATURE" in done.stderr


def test_tls_1_1_is_refused_and_1_2_is_not(served: Served) -> None:
    where = served.https.removeprefix("https://").removesuffix("/v1")
    for flag, works in (("-tls1_1", False), ("-tls1_2", True)):
        command = [program("openssl"), "s_client", "-connect", where, flag, "-cipher", "DEFAULT@SECLEVEL=0"]
        done = subprocess.run([*command, "-CAfile", str(served.ca)], input=b"", capture_output=True)
        assert (b"Cipher is (NONE)" not in done.stdout) == works


def test_a_renewed_certificate_is_taken_over_while_it_serves(served: Served) -> None:
    where = served.https.removeprefix("https://").removesuffix("/v1")
    context = ssl.create_default_context(cafile=str(served.ca))
    with httpx2.Client(verify=context, trust_env=False) as kept:
        assert kept.get(f"{served.https}/models").status_code == 200
        before = certificate(where)
        assert oproxy(served.env, "cert", "renew").returncode == 0
        served.until("new certificate")
        assert certificate(where) != before
        # The connection from before lives on.
        assert kept.get(f"{served.https}/models").status_code == 200
        assert httpx2.get(f"{served.https}/models", verify=context, trust_env=False).status_code == 200


def certificate(where: str) -> str:
    host, port = where.split(":")
    return ssl.get_server_certificate((host, int(port)))


def test_https_alone_with_ones_own_files_is_reached_by_our_own_commands(tmp_path: Path, ollama: str) -> None:
    # A name that is not ours: our own commands know the certificate itself.
    pair = make_pair(tmp_path, names="DNS:ai.example.com")
    config = tmp_path / "config.toml"
    config.write_text(f'[tls]\nmode = "files"\nonly = true\ncert = "{pair.cert}"\nkey = "{pair.key}"\n')
    env = environment(tmp_path)
    running = start(env, ollama, "--config", str(config))
    try:
        state = json.loads(oproxy(env, "status", "--json").stdout)
        assert (state["running"], state["url"]) == (True, running.https)
        assert [each["state"] for each in state["backends"]] == ["up"]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(running.http, trust_env=False)

        copy_pair(make_pair(tmp_path, "second", kind="rsa", names="DNS:ai.example.com"), pair)
        running.until("new certificate")
        assert "smollm2" in oproxy(env, "models", "list").stdout

        pair.cert.write_bytes(pair.cert.read_bytes()[:200])
        running.until("is refused, the one in force stays")
        https = json.loads(oproxy(env, "status", "--json").stdout)["https"]
        assert (https["ok"], https["since"] > 0, str(pair.cert) in https["error"]) == (False, True, True)
        copy_pair(make_pair(tmp_path, "third", names="DNS:ai.example.com"), pair)
        running.until("new certificate")
        assert json.loads(oproxy(env, "status", "--json").stdout)["https"]["ok"]
    finally:
        assert end(running) == 0


def test_without_a_certificate_and_a_ca_the_daemon_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    env = environment(tmp_path) | mkcert_only_here(tmp_path)
    done = oproxy(env, "serve", "--https", "--port", str(free_port()))
    assert (done.returncode, done.stdout) == (1, "")
    assert "oproxy cert install" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_cannot_be_used_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    pair, other = make_pair(tmp_path), make_pair(tmp_path, "other")
    env = environment(tmp_path) | {"OPROXY_TLS_MODE": "files", "OPROXY_TLS_CERT": str(pair.cert)}
    done = oproxy(env, "serve", "--port", str(free_port()))
    assert done.returncode == 1
    assert "tls.key: expected the path of a PEM file" in done.stderr
    done = oproxy({**env, "OPROXY_TLS_KEY": str(other.key)}, "serve", "--port", str(free_port()))
    assert done.returncode == 1
    assert "does not belong" in done.stderr
