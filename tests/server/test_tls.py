"""HTTPS: a pair that changes under running connections, pairs that are refused, and issuing before the end."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from ollama_proxy import certs
from ollama_proxy.certs import CertError, Pair
from ollama_proxy.sections import Server, Settings, Tls
from ollama_proxy.server.tls import Https, keep_fresh, open_https, sites_of
from ollama_proxy.tasks import Tasks
from tests.fakes.pairs import copy_pair, make_dated_pair, make_pair, mkcert_only_here, trusting

DAY = 86400.0


class World:
    """What an `Https` sees: settings that may change, a clock, and what it says."""

    def __init__(self, tls: Tls, say: Callable[[str], None] | None = None) -> None:
        self.tls = tls
        self.now = time.time()
        self.said: list[str] = []
        self.https = Https(tls.mode, "127.0.0.1", lambda: self.tls, say=say or self.said.append, now=lambda: self.now)

    def looked(self) -> bool:
        """Look until the files have been still for one look."""
        return self.https.look() or self.https.look()


def files(pair: Pair) -> Tls:
    return Tls(mode="files", cert=str(pair.cert), key=str(pair.key))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "first")


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


def met(https: Https, *known: Pair) -> str:
    """Return the common name of the certificate that a new client meets."""
    client = trusting(*known)
    client.check_hostname = False
    cert: Any = certs.handshake(https.context, client).getpeercert()
    return {key: value for row in cert["subject"] for key, value in row}["commonName"]


# --- files that change --------------------------------------------------------------------------------------------


@asynccontextmanager
async def streaming(context: ssl.SSLContext, go: asyncio.Event) -> AsyncIterator[str]:
    """Serve `/slow`, which answers in two parts, the second when `go` is set; yield the base URL."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one ")
        await go.wait()
        await response.write(b"two")
        return response

    app = web.Application()
    app.router.add_get("/slow", slow)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("kind", ["ec", "rsa"])
async def test_a_new_pair_is_for_new_connections_and_a_running_stream_goes_on(
    tmp_path: Path, pair: Pair, kind: str
) -> None:
    world, go = World(files(pair)), asyncio.Event()
    first, second = make_pair(tmp_path, "copy"), make_pair(tmp_path, "second", kind=kind)
    copy_pair(pair, first)
    async with (
        streaming(world.https.context, go) as url,
        aiohttp.ClientSession() as old,
        aiohttp.ClientSession() as new,
    ):
        async with old.get(f"{url}/slow", ssl=trusting(first)) as running:
            assert await running.content.readany() == b"one "
            copy_pair(second, pair)
            assert world.looked()
            go.set()

            # Who knows only the old certificate goes on, and comes in no more; who knows the new one does.
            assert await running.content.read() == b"two"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await new.get(f"{url}/slow", ssl=trusting(first))
        async with new.get(f"{url}/slow", ssl=trusting(second)) as response:
            assert await response.read() == b"one two"
    assert len(world.said) == 1
    assert "new certificate" in world.said[0]


def test_the_first_of_two_looks_takes_nothing_for_the_key_may_be_on_its_way(tmp_path: Path, pair: Pair) -> None:
    world = World(files(pair))
    second = make_pair(tmp_path, "second")
    copy_pair(Pair(second.cert, pair.key), pair)
    assert not world.https.look()
    copy_pair(second, pair)
    assert not world.https.look()
    assert world.https.look()
    assert met(world.https, second) == "second"
    assert not any("refused" in line for line in world.said)


Break = Callable[[Pair, Path], None]


def mismatched(pair: Pair, folder: Path) -> None:
    copy_pair(Pair(make_pair(folder, "other").cert, pair.key), pair)


def cut_off(pair: Pair, folder: Path) -> None:
    pair.cert.write_bytes(pair.cert.read_bytes()[:200])


def gone(pair: Pair, folder: Path) -> None:
    pair.key.unlink()


def locked(pair: Pair, folder: Path) -> None:
    copy_pair(make_pair(folder, "locked", secret="hush"), pair)


def expired(pair: Pair, folder: Path) -> None:
    copy_pair(make_dated_pair(folder, "20200101000000Z", "20200201000000Z"), pair)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (mismatched, "does not belong"),
        (cut_off, "first.pem"),
        (gone, "cannot be read"),
        (locked, "passphrase"),
        (expired, "expired on 2020-02-01"),
    ],
)
def test_a_broken_pair_is_refused_once_in_words_the_old_one_stays_and_a_good_one_is_taken(
    tmp_path: Path, pair: Pair, harm: Break, words: str
) -> None:
    world = World(files(pair))
    first = make_pair(tmp_path, "copy")
    copy_pair(pair, first)
    harm(pair, tmp_path)

    assert [world.looked() for _ in range(3)] == [False, False, False]
    assert len(world.said) == 1
    assert words in world.said[0]
    assert "the one in force stays" in world.said[0]
    assert met(world.https, first) == "first"
    state = world.https.state()
    assert not state["ok"]
    assert words in state["error"]
    assert (state["since"], state["expires"]) == (world.now, int(world.https.cert.end))

    second = make_pair(tmp_path, "second")
    copy_pair(second, pair)
    assert world.looked()
    assert met(world.https, second) == "second"
    assert (world.https.state()["ok"], world.https.state()["error"]) == (True, "")


def test_the_pair_in_force_that_is_put_back_ends_the_trouble(tmp_path: Path, pair: Pair) -> None:
    world, kept = World(files(pair)), tmp_path / "kept.pem"
    pair.key.rename(kept)
    world.looked()
    assert not world.https.state()["ok"]
    kept.rename(pair.key)
    assert world.looked()
    assert world.https.state()["ok"]

    good = world.tls
    world.tls = Tls(mode="files", cert=str(pair.cert))
    world.looked()
    assert "`key` under [tls] is not set" in world.https.state()["error"]
    world.tls = good
    assert world.looked()
    assert world.https.state()["ok"]


def test_a_certificate_that_expires_while_it_is_served_is_told(pair: Pair) -> None:
    world = World(files(pair))
    assert world.https.state()["ok"]
    world.now = world.https.cert.end + DAY
    state = world.https.state()
    assert "expired on" in state["error"]
    assert state["since"] == world.https.cert.end
    assert world.https.expired


def test_other_files_in_the_settings_are_taken_over_and_none_at_all_are_refused(tmp_path: Path, pair: Pair) -> None:
    world = World(files(pair))
    second = make_pair(tmp_path, "second")
    world.tls = files(second)
    assert world.looked()
    assert met(world.https, second) == "second"

    world.tls = Tls(mode="files", cert=str(pair.cert))
    assert not world.looked()
    assert "`key` under [tls] is not set" in world.said[-1]
    assert met(world.https, second) == "second"


def test_the_mode_is_what_it_was_at_the_start(pair: Pair) -> None:
    world = World(files(pair))
    world.tls = msgspec.structs.replace(world.tls, mode="off")
    assert not world.looked()
    assert world.said == []


def test_our_own_commands_follow_the_pair_in_force(tmp_path: Path, pair: Pair) -> None:
    world = World(files(pair))
    copy_pair(make_pair(tmp_path, "second"), pair)
    for _ in range(2):
        client = certs.client_context("https://127.0.0.1:1")
        assert client is not None
        assert certs.handshake(world.https.context, client).version() == "TLSv1.3"
        world.looked()


def test_a_client_that_offers_http_2_gets_http_1_1_from_every_pair(tmp_path: Path, pair: Pair) -> None:
    world = World(files(pair))
    first, second = make_pair(tmp_path, "copy"), make_pair(tmp_path, "second")
    copy_pair(pair, first)
    copy_pair(second, pair)
    for _ in range(2):
        client = trusting(first, second)
        client.check_hostname = False
        client.set_alpn_protocols(["h2", "http/1.1"])
        assert certs.handshake(world.https.context, client).selected_alpn_protocol() == "http/1.1"
        world.looked()


async def test_the_job_takes_a_change_over_by_itself(tmp_path: Path, pair: Pair) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    world, tasks = World(files(pair), say=said.put_nowait), Tasks()
    second = make_pair(tmp_path, "second")
    tasks.start(keep_fresh(world.https, every=0.01), name="https")
    copy_pair(second, pair)
    assert "new certificate" in await said.get()
    await tasks.aclose()
    assert met(world.https, second) == "second"


# --- mkcert -------------------------------------------------------------------------------------------------------


MKCERT = Settings(tls=Tls(mode="mkcert"))


def test_a_missing_certificate_is_issued_when_mkcert_has_its_ca(mkcert: str) -> None:
    said: list[str] = []
    https = open_https(MKCERT, say=said.append)
    assert https is not None
    assert https.pair == certs.own_pair()
    assert not certs.missing_names(https.cert, certs.names_for())
    assert said == []


def test_without_mkcert_or_its_ca_the_start_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    os.environ |= mkcert_only_here(tmp_path)
    for path in (os.environ["PATH"], str(tmp_path)):
        os.environ["PATH"] = path
        with pytest.raises(CertError, match=r"no certificate yet(.|\n)*oproxy cert install"):
            open_https(MKCERT, say=print)
    # mkcert would have made a CA that nobody trusts.
    assert not (tmp_path / "caroot" / "rootCA.pem").exists()


async def test_a_certificate_is_issued_anew_when_fewer_than_30_days_are_left(mkcert: str) -> None:
    certs.issue(mkcert, certs.names_for())
    world = World(MKCERT.tls)
    before = world.https.cert
    world.now = before.end - 30 * DAY - 1
    assert world.https.due() == ""

    world.now += 2
    why = world.https.due()
    assert "expires on" in why
    await world.https.renew(why)
    assert world.looked()
    assert world.https.cert.serial != before.serial
    assert any("new certificate" in line for line in world.said)
    # mkcert dates by the real clock, so ours finds the new one old, too; but tries are an hour apart.
    assert world.https.due() == ""
    world.now += 3600
    assert world.https.due() != ""


async def test_a_name_that_is_added_to_the_settings_gets_into_the_certificate(mkcert: str) -> None:
    certs.issue(mkcert, certs.names_for())
    world = World(MKCERT.tls)
    world.tls = Tls(mode="mkcert", names=("ai.lan",))
    why = world.https.due()
    assert why == "is not for ai.lan"
    await world.https.renew(why)
    assert world.looked()
    assert "ai.lan" in world.https.cert.names


async def test_what_hinders_a_renewal_is_said_once_and_the_old_certificate_stays(mkcert: str, tmp_path: Path) -> None:
    certs.issue(mkcert, certs.names_for())
    world = World(MKCERT.tls)
    os.environ["PATH"] = str(tmp_path)
    world.now = world.https.cert.end - DAY
    for _ in range(3):
        await world.https.renew(world.https.due())
        world.now += 3600
    assert len(world.said) == 1
    assert "cannot be issued: mkcert is not installed" in world.said[0]
    assert not world.looked()
    assert "mkcert is not installed" in world.https.state()["error"]


async def test_a_name_that_cannot_be_had_and_is_taken_back_is_no_trouble_any_more(mkcert: str, tmp_path: Path) -> None:
    certs.issue(mkcert, certs.names_for())
    world = World(MKCERT.tls)
    path, os.environ["PATH"] = os.environ["PATH"], str(tmp_path)
    world.tls = Tls(mode="mkcert", names=("ai.lan",))
    await world.https.renew(world.https.due())
    assert not world.https.state()["ok"]
    world.tls, world.now = MKCERT.tls, world.now + 3600
    assert world.https.due() == ""
    assert world.https.state()["ok"]
    os.environ["PATH"] = path


def test_at_the_start_an_expiring_certificate_is_better_than_none(mkcert: str, tmp_path: Path) -> None:
    end = certs.issue(mkcert, certs.names_for()).end
    os.environ["PATH"] = str(tmp_path)
    said: list[str] = []
    assert open_https(MKCERT, say=said.append, now=lambda: end - DAY) is not None
    assert len(said) == 1
    assert open_https(MKCERT, say=said.append, now=lambda: end + DAY) is not None
    assert "clients will refuse it" in said[-1]


def test_ones_own_files_are_never_issued_anew(pair: Pair) -> None:
    world = World(files(pair))
    world.now = world.https.cert.end + DAY
    assert world.https.due() == ""


# --- where it listens ---------------------------------------------------------------------------------------------


def test_https_is_beside_http_or_alone_or_not_at_all(pair: Pair) -> None:
    server = Server(host="::1", port=1)
    off = Settings(server=server)
    both = Settings(server=server, tls=msgspec.structs.replace(files(pair), port=2))
    only = msgspec.structs.replace(both, tls=msgspec.structs.replace(both.tls, only=True))

    assert open_https(off, say=print) is None
    assert [site[:2] for site in sites_of(off, None)] == [("::1", 1)]
    https = open_https(both, say=print)
    assert https is not None
    assert sites_of(both, https) == [("::1", 1, None), ("::1", 2, https.context)]
    assert sites_of(only, https) == [("::1", 2, https.context)]
    # Without HTTPS there is nothing that could be alone.
    assert [site[:2] for site in sites_of(msgspec.structs.replace(only, tls=Tls(only=True)), None)] == [("::1", 1)]
