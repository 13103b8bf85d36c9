"""What is sent on to a backend as it is: both ways, in the books, and by nobody who may not."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from ollama_proxy.engine import Snapshot
from ollama_proxy.server.keys import ENGINE
from tests.conftest import Proxy, Start
from tests.fakes.openai import Answer, FakeOpenAI, Recorded, fake_openai, sse

SPEECH = {"model": "small-tts", "input": "Hello", "voice": "alloy"}
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 2}}
IMAGE = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": USAGE}
CONTROL = "the-control-token"


def config(url: str, more: str = "") -> str:
    return f"""
{more}
[backends.lab]
type = "openai"
url = "{url}"
api_key = "sk-of-the-backend"
headers = {{ x-tenant = "ours" }}
read_timeout = 2
serves = ["audio", "images", "videos", "assistants"]
"""


class Setup(NamedTuple):
    """The proxy, the server behind it, and a session whose URLs are relative to the proxy."""

    proxy: Proxy
    lab: FakeOpenAI
    http: aiohttp.ClientSession

    @property
    def last(self) -> Recorded:
        return self.lab.calls[-1]

    async def key(self, **wanted: Any) -> dict[str, str]:
        """Make a key; return the header that shows it."""
        headers = {"authorization": f"Bearer {CONTROL}"}
        async with self.http.post("/oproxy/keys", json={"name": "ann", **wanted}, headers=headers) as response:
            assert response.status == 200, await response.text()
            return {"authorization": f"Bearer {(await response.json())['key']}"}


def rows() -> list[Any]:
    """Return what the ledger has of each request."""
    columns = "endpoint, status, asked, served, backend, prompt, completion, stream, code"
    with closing(sqlite3.connect(Path(os.environ["XDG_DATA_HOME"]) / "oproxy" / "oproxy.db")) as opened:
        return opened.execute(f"SELECT {columns} FROM requests ORDER BY seq").fetchall()


@pytest.fixture
async def setup(start_proxy: Start) -> AsyncIterator[Setup]:
    async with fake_openai() as lab:
        proxy = await start_proxy(config(lab.url), books=True, control=CONTROL)
        async with aiohttp.ClientSession(proxy.url) as http:
            yield Setup(proxy, lab, http)


def form(model: str = "", *, first: bool = True, size: int = 300_000) -> aiohttp.FormData:
    """Return a form with a file, and perhaps the model's name before or behind it."""
    data = aiohttp.FormData()
    if model and first:
        data.add_field("model", model)
    data.add_field("file", b"\x00\r\n-" * (size // 4), filename='a; name="model".wav', content_type="audio/wav")
    if model and not first:
        data.add_field("model", model)
    return data


# --- both ways ----------------------------------------------------------------------------------------------------


async def test_sound_comes_back_as_it_is_with_headers_of_ours(setup: Setup) -> None:
    sound = bytes(range(256)) * 1000
    answer = Answer(body=sound, content_type="audio/mpeg", headers={"x-other": "kept", "x-ratelimit-limit-tokens": "1"})
    setup.lab.script("/audio/speech", answer)
    async with setup.http.post("/v1/audio/speech", json=SPEECH) as response:
        assert (response.status, await response.read()) == (200, sound)
        assert response.headers["content-type"] == "audio/mpeg"
        assert response.headers["content-length"] == str(len(sound))
        assert response.headers["x-other"] == "kept"
        assert "x-ratelimit-limit-tokens" not in response.headers
        assert response.headers["x-oproxy-backend"] == "lab"
        assert response.headers["x-oproxy-model"] == "small-tts"
        assert response.headers["server"] == "oproxy"
        assert response.headers["x-request-id"].startswith("req_")
    assert (setup.last.method, setup.last.path, setup.last.body) == ("POST", "/audio/speech", SPEECH)
    assert rows() == [
        ("/v1/audio/speech", 200, "small-tts", "small-tts", "lab", 0, 0, 0, None),
    ]


async def test_the_backends_key_is_sent_and_never_the_callers(setup: Setup) -> None:
    setup.lab.script("/audio/speech", Answer(body=b"x", content_type="audio/mpeg"))
    headers = {
        "authorization": "Bearer sk-of-the-caller", "x-api-key": "sk-of-the-caller", "cookie": "a=sk-of-the-caller",
        "openai-organization": "org-callers", "x-tenant": "another", "openai-beta": "assistants=v2",
        "idempotency-key": "k1", "x-oproxy-tag": "t", "te": "trailers", "connection": "x-hop", "x-hop": "1",
    }  # fmt: skip
    async with setup.http.post("/v1/audio/speech", json=SPEECH, headers=headers) as response:
        assert response.status == 200
    sent = setup.last.headers
    assert sent["authorization"] == "Bearer sk-of-the-backend"
    assert sent["x-tenant"] == "ours"
    assert sent["openai-beta"] == "assistants=v2"
    assert sent["idempotency-key"] == "k1"
    assert "sk-of-the-caller" not in json.dumps(sent)
    assert not {"openai-organization", "x-oproxy-tag", "te", "x-hop", "cookie"} & set(sent)


async def test_the_usage_of_a_whole_answer_is_booked_before_it_is_sent(setup: Setup) -> None:
    setup.lab.script("/images/generations", Answer(body=IMAGE))
    async with setup.http.post("/v1/images/generations/", json={"model": "small-image", "prompt": "x"}) as response:
        assert await response.json() == IMAGE
        booked = rows()
    assert booked == [("/v1/images/generations", 200, "small-image", "small-image", "lab", 5, 7, 0, None)]


async def test_a_stream_comes_event_by_event_and_its_usage_is_booked(setup: Setup) -> None:
    first, last = sse({"type": "speech.audio.delta", "audio": "aGk="}, done=False), sse({"type": "x", "usage": USAGE})
    setup.lab.script("/audio/speech", Answer(pieces=[first, last]))
    async with setup.http.post("/v1/audio/speech", json={**SPEECH, "stream_format": "sse"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert await response.read() == first + last
        booked = rows()
    assert booked == [("/v1/audio/speech", 200, "small-tts", "small-tts", "lab", 5, 7, 1, None)]


@pytest.mark.parametrize("first", [True, False])
async def test_a_form_goes_through_unchanged_and_its_model_is_booked(setup: Setup, first: bool) -> None:
    setup.lab.script("/audio/transcriptions", Answer(body={"text": "hi", "usage": {"type": "duration", "seconds": 3}}))
    data = form("small-whisper", first=first)
    async with setup.http.post("/v1/audio/transcriptions", data=data) as response:
        assert (await response.json())["text"] == "hi"
    assert setup.last.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert setup.last.data.count(b"\x00\r\n-") == 75_000
    assert b'name="model"\r\n' in setup.last.data
    (row,) = rows()
    assert row[:5] == ("/v1/audio/transcriptions", 200, "small-whisper", "small-whisper", "lab")


async def test_a_form_is_passed_on_while_it_comes_in(setup: Setup) -> None:
    """And it may be larger than what we read whole."""
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(80):
            yield b"a" * (1 << 20)
        await held.wait()
        yield b"\r\n--b--\r\n"

    setup.lab.script("/audio/transcriptions", Answer(body={"text": "hi"}))
    headers = {"content-type": "multipart/form-data; boundary=b"}

    async def ask() -> int:
        async with setup.http.post("/v1/audio/transcriptions", data=body(), headers=headers) as response:
            return response.status

    asking = asyncio.ensure_future(ask())
    await asyncio.wait_for(setup.lab.receiving.wait(), 10)
    held.set()
    assert await asking == 200
    assert len(setup.last.data) > 80 << 20


async def test_queries_and_odd_names_in_paths_arrive_as_they_were_written(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={"object": "list", "data": []})
    async with setup.http.get("/v1/videos/a%20b%2Bc%3F?limit=2&after=x%26y") as response:
        assert response.status == 200
    assert setup.last.target == "/v1/videos/a%20b%2Bc%3F?limit=2&after=x%26y"


async def test_an_empty_answer_and_a_head_without_a_body_end(setup: Setup) -> None:
    setup.lab.script("/videos/v1/content", Answer(body=b"film", content_type="video/mp4"), Answer(status=204, body=b""))
    async with setup.http.head("/v1/videos/v1/content") as response:
        assert (response.status, await response.read()) == (200, b"")
    async with setup.http.get("/v1/videos/v1/content") as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_a_large_answer_in_json_is_not_kept_whole_and_comes_whole(setup: Setup) -> None:
    body = b'{"data": "' + b"a" * (9 << 20) + b'", "usage": {"input_tokens": 1}}'
    setup.lab.script("/images/generations", Answer(body=body))
    async with setup.http.post("/v1/images/generations", json={"prompt": "x"}) as response:
        assert await response.read() == body
        assert response.headers["content-length"] == str(len(body))
        (row,) = rows()
    assert row[1] == 200


async def test_headers_that_are_no_text_are_left_out(setup: Setup) -> None:
    setup.lab.script("/videos", Answer(body={}))
    host, port = setup.proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"GET /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Odd: \xff\r\nX-Even: \xc3\xbc\r\n\r\n"
    writer.write(head)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert "x-odd" not in setup.last.headers
    assert setup.last.headers["x-even"] == "ü"


async def test_what_is_sent_packed_arrives_unpacked(setup: Setup) -> None:
    plain = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    setup.lab.script("/audio/transcriptions", Answer(body={"text": "hi"}))
    headers = {"content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip"}
    async with setup.http.post("/v1/audio/transcriptions", data=gzip.compress(plain), headers=headers) as response:
        assert response.status == 200
    assert setup.last.data == plain
    assert "content-encoding" not in setup.last.headers


async def test_an_address_of_the_backend_becomes_one_of_ours(setup: Setup) -> None:
    setup.lab.script("/videos", Answer(body={}, headers={"location": f"{setup.lab.url}/videos/v_1"}))
    async with setup.http.post("/v1/videos", json={"prompt": "x"}) as response:
        assert response.headers["location"] == "/v1/videos/v_1"


# --- which backend ------------------------------------------------------------------------------------------------


async def test_an_alias_and_a_backends_name_choose_the_model_and_the_place(start_proxy: Start) -> None:
    async with fake_openai() as lab, fake_openai() as home:
        lab.elsewhere = home.elsewhere = Answer(body={})
        more = '[models.aliases]\n"tts-1" = "home/kokoro"\n"gpt-*" = "smollm2"\n"dall-*" = "home/flux"\n'
        second = f'[backends.home]\ntype = "openai"\nurl = "{home.url}"\nserves = ["audio", "images"]\n'
        proxy = await start_proxy(config(lab.url, more) + second)
        async with aiohttp.ClientSession(proxy.url) as http:

            async def asked(model: str) -> None:
                async with http.post("/v1/images/generations", data=f'{{"n": 1, "model":"{model}"}}'.encode(),
                                     headers={"content-type": "application/json"}) as response:  # fmt: skip
                    assert response.status == 200

            for model in ("tts-1", "gpt-image-1", "dall-e-3", "home/x", "lab/y", "other/z"):
                await asked(model)
    assert [call.body["model"] for call in home.calls] == ["kokoro", "flux", "x"]
    assert [call.body["model"] for call in lab.calls] == ["gpt-image-1", "y", "other/z"]
    # What need not be changed keeps its bytes.
    assert lab.calls[0].data == b'{"n": 1, "model":"gpt-image-1"}'


async def test_a_reload_serves_another_group_at_once(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={})
    engine = setup.proxy.app[ENGINE]
    async with setup.http.get("/v1/evals") as response:
        assert response.status == 404
    backend = msgspec.structs.replace(engine.snapshot.settings.backends["lab"], serves=("evals",))
    settings = msgspec.structs.replace(engine.snapshot.settings, backends={"lab": backend})
    engine.snapshot = Snapshot(settings, engine.snapshot.names)
    async with setup.http.get("/v1/evals") as response:
        assert response.status == 200


# --- who may ------------------------------------------------------------------------------------------------------


async def test_a_key_reaches_only_its_models_in_json_and_in_forms(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={})
    key = await setup.key(models=["small-*"])
    async with setup.http.post("/v1/audio/speech", json={**SPEECH, "model": "large"}, headers=key) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "model_not_found"
    for first in (True, False):
        async with setup.http.post(
            "/v1/audio/transcriptions", data=form("large", first=first), headers=key
        ) as response:
            assert response.status == 404
            assert (await response.json())["error"]["code"] == "model_not_found"
    # The backend never had the whole of it.
    assert setup.lab.calls == []
    async with setup.http.post("/v1/audio/transcriptions", data=form("small-whisper"), headers=key) as response:
        assert response.status == 200


ODD_FORMS = {
    "lines without CR": b'--b\nContent-Disposition: form-data; name="model"\n\nlarge\n--b--\n',
    "no end": b'--b\r\nContent-Disposition: form-data; name="model"\r\n\nlarge',
    "two boundaries": b"",
}


@pytest.mark.parametrize("case", ODD_FORMS)
async def test_a_form_that_cannot_be_read_passes_no_key_that_is_for_some_models_only(setup: Setup, case: str) -> None:
    setup.lab.elsewhere = Answer(body={})
    key = await setup.key(models=["small-*"])
    headers = {**key, "content-type": "multipart/form-data; boundary=b" + "; boundary=c" * (case == "two boundaries")}
    async with setup.http.post("/v1/audio/transcriptions", data=ODD_FORMS[case], headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    assert setup.lab.calls == []


async def test_a_model_that_is_named_twice_is_sent_once_for_a_key_of_some_models(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={})
    body = b'{"model": "large", "model": "small-tts"}'
    key = {**await setup.key(models=["small-*"]), "content-type": "application/json"}
    async with setup.http.post("/v1/audio/speech", data=body, headers=key) as response:
        assert response.status == 200
    assert setup.last.data == b'{"model":"small-tts"}'


async def test_a_key_reaches_only_its_endpoints(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={})
    key = await setup.key(endpoints=["/v1/images/*"])
    async with setup.http.post("/v1/audio/speech", json=SPEECH, headers=key) as response:
        assert response.status == 403
    async with setup.http.post("/v1/images/generations", json={"model": "x"}, headers=key) as response:
        assert response.status == 200


async def test_a_limit_of_requests_holds(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        lab.elsewhere = Answer(body={})
        proxy = await start_proxy(config(lab.url, "[limits]\nrequests_per_minute = 1\n"))
        async with aiohttp.ClientSession(proxy.url) as http:
            async with http.post("/v1/images/generations", json={"model": "x"}) as response:
                assert response.status == 200
                assert response.headers["x-ratelimit-limit-requests"] == "1"
            async with http.post("/v1/images/generations", json={"model": "x"}) as response:
                assert response.status == 429
                assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
    assert len(lab.calls) == 1


CLIMBS = [
    "/v1/audio/../organization/admin_api_keys", "/v1/audio/%2e%2e/organization/admin_api_keys",
    "/v1/audio/..%2forganization/admin_api_keys", "/v1/audio/%252e%252e/models", "/v1/audio/..%5cmodels",
    "/v1/audio//models", "/v1/audio/./x", "/v1/audio/%25252525252e/x",
]  # fmt: skip


@pytest.mark.parametrize("path", CLIMBS)
async def test_no_path_climbs_out_of_what_is_forwarded(setup: Setup, path: str) -> None:
    setup.lab.elsewhere = Answer(body={})
    host, port = setup.proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] in (b"404", b"401")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert setup.lab.calls == []


# --- what goes wrong ----------------------------------------------------------------------------------------------


async def test_an_error_of_the_backend_keeps_its_words_in_openais_form(setup: Setup) -> None:
    error = {"error": {"message": "No such voice.", "type": "invalid_request_error", "param": "voice", "code": "bad"}}
    setup.lab.script(
        "/audio/speech",
        Answer(status=400, body=error),
        Answer(status=404, body=b"404 page not found", content_type="text/plain"),
        Answer(status=401, body=error),
        Answer(status=302, body=b"", headers={"location": "http://elsewhere.example/"}),
    )
    told = []
    for _ in range(4):
        async with setup.http.post("/v1/audio/speech", json=SPEECH) as response:
            told.append((response.status, (await response.json())["error"]))
    assert told[0] == (400, error["error"])
    # No model is missing, but the route.
    assert told[1][0] == 502
    assert "(status 404: 404 page not found). Check url under [backends.lab]" in told[1][1]["message"]
    # It is our key that is wrong there, not the caller's here.
    assert told[2][0] == 502
    assert told[3][0] == 502


async def test_a_backend_that_is_away_or_silent_is_named(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        lab.script("/audio/speech", Answer(silent=True))
        proxy = await start_proxy(config(lab.url).replace("read_timeout = 2", "read_timeout = 0.1"))
        away = await start_proxy(config("http://127.0.0.1:9/v1"))
        async with aiohttp.ClientSession() as http:
            for url, status in ((proxy.url, 504), (away.url, 502)):
                async with http.post(f"{url}/v1/audio/speech", json=SPEECH) as response:
                    assert response.status == status
                    assert "'lab'" in (await response.json())["error"]["message"]


async def test_an_answer_that_breaks_off_is_not_taken_for_whole(setup: Setup) -> None:
    event = sse({"type": "delta"}, done=False)
    setup.lab.script("/audio/speech", Answer(pieces=[event], cut=True), Answer(pieces=[b"data: {"], cut=True))
    async with setup.http.post("/v1/audio/speech", json=SPEECH) as response:
        told = await response.read()
    assert told.startswith(event)
    assert b'"error"' in told[len(event) :]
    async with setup.http.post("/v1/audio/speech", json=SPEECH) as response:
        # Half an event is not passed on.
        assert (response.status, list(await response.json())) == (502, ["error"])
    assert [(row[1], row[-1] is not None) for row in rows()] == [(200, True), (502, True)]


async def test_a_client_that_leaves_frees_the_backend(setup: Setup) -> None:
    setup.lab.script("/audio/speech", Answer(pieces=[b": hello\n\n"], hang=True))
    response = await setup.http.post("/v1/audio/speech", json=SPEECH)
    assert await response.content.readany() == b": hello\n\n"
    response.close()
    await asyncio.wait_for(setup.lab.gone.wait(), 5)


async def test_a_client_that_leaves_in_its_form_leaves_no_call_behind(setup: Setup) -> None:
    host, port = setup.proxy.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode() + b"a" * 70_000)
    await writer.drain()
    await asyncio.wait_for(setup.lab.receiving.wait(), 5)
    writer.close()
    await asyncio.wait_for(setup.lab.gone.wait(), 5)
    assert setup.lab.calls == []


# --- what nobody serves -------------------------------------------------------------------------------------------


async def test_a_route_nobody_serves_says_what_to_configure(setup: Setup) -> None:
    async with setup.http.post("/v1/fine_tuning/jobs/", json={"model": "x"}) as response:
        body = await response.json()
    assert response.status == 404
    assert body["error"]["code"] == "not_served_here"
    assert body["error"]["type"] == "invalid_request_error"
    assert 'serves = ["fine_tuning"] to [backends.lab]' in body["error"]["message"]
    assert setup.lab.calls == []
    assert (rows())[0][:2] == ("/v1/fine_tuning/jobs", 404)


async def test_a_method_that_a_path_does_not_have_is_405(setup: Setup) -> None:
    async with setup.http.put("/v1/audio/speech") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_what_openai_removed_says_what_took_its_place(setup: Setup) -> None:
    async with setup.http.post("/v1/engines/davinci/completions", json={}) as response:
        assert response.status == 404
        assert "use /v1/models instead" in (await response.json())["error"]["message"]


async def test_what_openai_may_have_below_a_group_is_forwarded_too(setup: Setup) -> None:
    setup.lab.elsewhere = Answer(body={"new": True})
    async with setup.http.post("/v1/audio/whispers", json={}) as response:
        assert await response.json() == {"new": True}
    assert (rows())[0][0] == "/v1/audio"
