"""Files as clients meet them: raw forms, and the official SDK."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from yarl import URL

from ollama_proxy.errors import Invalid, NotFound
from ollama_proxy.server.files import file_of, keep_file, read_file
from ollama_proxy.server.keys import BLOBS
from ollama_proxy.server.sweep import sweep
from ollama_proxy.translate.files import BATCH_MAX, check_file
from tests.shapes import check

from .filing import NOW, TOKEN, Desk, desk, form, raw_form

MIB = 1 << 20
MONTH = 30 * 86400
FILE = ('name="file"; filename="a.txt"', b"hello")
PURPOSE = ('name="purpose"', b"user_data")


@pytest.fixture
async def files() -> AsyncIterator[Desk]:
    async with desk() as made:
        yield made


def fits(made: Any, name: str = "OpenAIFile") -> None:
    """Check an object against OpenAI's schema, which has keys left out where the API says null."""
    check(name, {key: value for key, value in made.items() if value is not None})


# --- taking in ------------------------------------------------------------------------------------------------------


async def test_a_file_is_kept_and_comes_back_byte_for_byte(files: Desk) -> None:
    data = bytes(range(256)) * 1000 + b"\r\n--x--\r\n\0"
    made = await files.upload(data, name="a.bin")
    fits(made)
    assert made == {
        "id": made["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": NOW,
        "expires_at": None,
        "filename": "a.bin",
        "purpose": "user_data",
        "status": "processed",
        "status_details": None,
    }
    status, got, headers = await files.content(made["id"])

    assert (status, got) == (200, data)
    assert headers["content-disposition"] == 'attachment; filename="a.bin"'
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert (await files.ask("GET", f"/v1/files/{made['id']}")) == (200, made)
    assert files.names() == [made["id"]]


@pytest.mark.parametrize("parts", [(FILE, PURPOSE), (PURPOSE, FILE)])
async def test_fields_come_in_any_order(files: Desk, parts: Any) -> None:
    body, headers = raw_form(*parts)
    status, made = await files.ask("POST", "/v1/files", data=body, headers=headers)

    assert status == 200, made
    assert (await files.content(made["id"]))[1] == b"hello"


async def test_a_part_of_a_file_can_be_asked_for(files: Desk) -> None:
    made = await files.upload(b"0123456789")

    assert (await files.content(made["id"], range="bytes=2-4"))[:2] == (206, b"234")
    assert (await files.content(made["id"], range="bytes=20-"))[0] == 416
    async with files.http.head(f"/v1/files/{made['id']}/content") as response:
        assert (response.status, response.headers["content-length"]) == (200, "10")


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, None),
        ({"purpose": "batch"}, NOW + MONTH),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}, NOW + 3600),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "2592000"},
            NOW + MONTH,
        ),
        ({"expires_after": '{"anchor": "created_at", "seconds": 7200}'}, NOW + 7200),
        ({"expires_after": ""}, None),
        ({"expires_after": "null"}, None),
    ],
)
async def test_a_file_expires_when_it_was_said(files: Desk, fields: dict[str, str], want: float | None) -> None:
    made = await files.upload(name="a.jsonl", **fields)

    assert made["expires_at"] == want
    if want is None:
        return
    files.clock.now = want - 1
    assert (await files.ask("GET", f"/v1/files/{made['id']}"))[0] == 200
    files.clock.now = want
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        assert (await files.ask(method, f"/v1/files/{made['id']}{path}"))[0] == 404
    assert (await files.ask("GET", "/v1/files"))[1]["data"] == []
    assert await sweep(files.app) == 1
    assert files.names() == []


async def test_unknown_fields_are_named_as_ignored(files: Desk) -> None:
    body = form(b"x", purpose="user_data", colour="red", user="me")
    async with files.http.post("/v1/files", data=body) as response:
        assert response.status == 200
        assert response.headers["x-oproxy-ignored"] == "colour, user"


# --- what is wrong --------------------------------------------------------------------------------------------------

ANCHOR = ('name="expires_after[anchor]"', b"created_at")


# Parts; then what the error says, its param and its code.
WRONG: list[tuple[Any, str, str | None, str | None]] = [
    ((FILE,), "Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter"),
    ((PURPOSE,), "Missing required parameter: 'file'.", "file", "missing_required_parameter"),
    ((), "Missing required parameter: 'file'.", "file", "missing_required_parameter"),
    (
        (FILE, ('name="purpose"', b"answers")),
        "'answers' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'",
        "purpose",
        None,
    ),
    ((FILE, ('name="purpose"', b"")), "'' is not one of", "purpose", None),
    ((FILE, ('name="purpose"', b"batch_output")), "'batch_output' is not one of", "purpose", None),
    (
        (FILE, ('name="purpose"', b"batch")),
        "Invalid file format for Batch API. Must be .jsonl",
        "file",
        None,
    ),
    (
        (PURPOSE, ('name="file"; filename="a.txt"', b"")),
        "File is empty.",
        "file",
        "empty_file",
    ),
    (
        (PURPOSE, ('name="file"', b"hello")),
        "Invalid type for 'file': expected a file, but got a string instead.",
        "file",
        "invalid_type",
    ),
    ((PURPOSE, FILE, FILE), "Duplicate parameter: 'file'.", "file", None),
    (
        (PURPOSE, FILE, ANCHOR, ('name="expires_after[seconds]"', b"3599")),
        "integer below minimum value. Expected a value >= 3600, but got 3599 instead.",
        "expires_after.seconds",
        "integer_below_min_value",
    ),
    (
        (PURPOSE, FILE, ANCHOR, ('name="expires_after[seconds]"', b"2592001")),
        "Invalid 'expires_after.seconds': integer above maximum value.",
        "expires_after.seconds",
        "integer_above_max_value",
    ),
    (
        (PURPOSE, FILE, ANCHOR, ('name="expires_after[seconds]"', b"soon")),
        "Invalid type for 'expires_after.seconds': expected an integer, but got a string instead.",
        "expires_after.seconds",
        "invalid_type",
    ),
    (
        (PURPOSE, FILE, ANCHOR),
        "Missing required parameter: 'expires_after.seconds'.",
        "expires_after.seconds",
        "missing_required_parameter",
    ),
    (
        (PURPOSE, FILE, ('name="expires_after[seconds]"', b"3600")),
        "Missing required parameter: 'expires_after.anchor'.",
        "expires_after.anchor",
        "missing_required_parameter",
    ),
    (
        (PURPOSE, FILE, ('name="expires_after"', b"soon")),
        "Invalid type for 'expires_after': expected an object, but got a string instead.",
        "expires_after",
        "invalid_type",
    ),
    (
        (PURPOSE, FILE, ('name="expires_after[anchor]"', b"now"), ('name="expires_after[seconds]"', b"3600")),
        "Invalid value: 'now'. Supported values are: 'created_at'.",
        "expires_after.anchor",
        "invalid_value",
    ),
    ((PURPOSE, ('name="purpose2"', b"x" * 70000), FILE), "The field 'purpose2' is longer", "purpose2", None),
    ((PURPOSE, *[('name="x"', b"")] * 101, FILE), "more than 100 fields", None, None),
    ((PURPOSE, ("", b"x"), FILE), "We could not parse the form", None, None),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_a_wrong_form_is_refused_in_openais_words(files: Desk) -> None:
    for parts, message, param, code in WRONG:
        body, headers = raw_form(*parts)
        status, got = await files.ask("POST", "/v1/files", data=body, headers=headers)
        assert status == 400, (message, got)
        check("ErrorResponse", got)
        assert message in got["error"]["message"]
        assert (got["error"]["param"], got["error"]["code"]) == (param, code)
        assert files.names() == []


WHOLE, WHOLE_HEADERS = raw_form(PURPOSE, FILE)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_a_form_that_breaks_off_anywhere_is_refused_and_leaves_nothing(files: Desk) -> None:
    for cut in range(len(WHOLE) - 4):
        status, got = await files.ask("POST", "/v1/files", data=WHOLE[:cut], headers=WHOLE_HEADERS)
        assert status == 400, (cut, got)
        check("ErrorResponse", got)
        assert files.names() == []


async def test_what_is_no_form_is_refused(files: Desk) -> None:
    for headers in (
        {"content-type": "application/json"},
        {"content-type": "multipart/form-data"},
        {"content-type": 'multipart/form-data; boundary="'},
        {"content-type": "multipart/form-data; boundary=" + "y" * 200},
        {"content-type": "multipart/mixed; boundary=x"},
        {"content-type": "multipart/form-data; boundary=x", "content-encoding": "gzip"},
        {},
    ):
        status, got = await files.ask("POST", "/v1/files", data=WHOLE, headers=headers)
        assert status == 400, (headers, got)
        check("ErrorResponse", got)


HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "C:\\a.txt",
    "a" * 5000,
    "ä€😀.txt",
    "a b;c=d.txt",
    ".",
    "..",
    "-rf",
    "a\tb",
    "<script>",
    "CON",
    "file%00.txt",
]


async def test_a_hostile_name_is_kept_as_text_and_never_as_a_path(files: Desk) -> None:
    for name in HOSTILE:
        body, headers = raw_form(PURPOSE, ('name="file"; filename="' + name.replace("\\", "\\\\") + '"', b"hello"))
        status, made = await files.ask("POST", "/v1/files", data=body, headers=headers)
        assert status == 200, (name, made)
        # The slash in front is taken off by the reader of the header.
        assert made["filename"] == name.lstrip("/")
        assert files.names() == [made["id"]]
        status, got, headers = await files.content(made["id"])
        assert (status, got) == (200, b"hello")
        assert headers["content-disposition"].startswith('attachment; filename="')
        assert (await files.ask("DELETE", f"/v1/files/{made['id']}"))[0] == 200


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_a_name_that_is_no_text_is_no_failure_of_ours(files: Desk) -> None:
    good = 0
    for name in ("a\udcff.txt", "a\0b.txt", 'a".txt', ""):
        body, headers = raw_form(PURPOSE, (f'name="file"; filename="{name}"', b"hello"))
        status, got = await files.ask("POST", "/v1/files", data=body, headers=headers)
        assert status in (200, 400), (name, got)
        good += status == 200
    assert len(files.names()) == good


# --- sizes ----------------------------------------------------------------------------------------------------------


async def test_a_file_may_be_larger_than_other_bodies() -> None:
    async with desk(f"[server]\nmax_body = {MIB}\n") as files:
        made = await files.upload(b"x" * 3 * MIB)
        status, got = await files.ask("POST", "/v1/chat/completions", data=io.BytesIO(b"x" * 3 * MIB))

        assert made["bytes"] == 3 * MIB
        assert status == 413, got


@pytest.mark.parametrize("size", [2 * MIB + 1, 5 * MIB])
async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(size: int) -> None:
    async with desk(f"[files]\nmax_size = {2 * MIB}\n") as files:
        assert (await files.upload(b"x" * 2 * MIB))["bytes"] == 2 * MIB
        status, got = await files.ask("POST", "/v1/files", data=form(b"x" * size, purpose="user_data"))

        assert status == 413, got
        assert "max_size under [files]" in got["error"]["message"]
        assert len(files.names()) == 1


async def test_a_file_that_does_not_say_how_large_it_is_is_stopped_at_the_limit() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield WHOLE[: WHOLE.index(b"hello")]
        while True:
            yield b"x" * MIB

    async with desk(f"[files]\nmax_size = {3 * MIB}\n") as files:
        try:
            status, _ = await files.ask("POST", "/v1/files", data=endless(), headers=WHOLE_HEADERS)
            assert status == 413
        except aiohttp.ClientError:
            # Hung up on: it would have gone on for ever.
            pass
        assert files.names() == []


async def test_what_will_be_refused_is_not_waited_for(files: Desk) -> None:
    for purpose, message in ((b"answers", b"is not one of"), (b"batch", b"Must be .jsonl")):
        begun = raw_form(('name="purpose"', purpose), FILE, end=False)[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(files.url).port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + begun
        )
        answer = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        while not answer.done():
            # The reader of a form looks for the next boundary beyond what it has.
            writer.write(b"x" * 1000)
            await asyncio.wait([answer], timeout=0.01)
        head = await answer
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head.lower()
        assert message in await reader.readuntil(b"}}")
        writer.close()


async def test_all_files_together_have_a_limit() -> None:
    async with desk(f"[files]\nmax_total = {4 * MIB}\n") as files:
        first = await files.upload(b"x" * 3 * MIB)
        status, got = await files.ask("POST", "/v1/files", data=form(b"x" * 2 * MIB, purpose="user_data"))

        assert status == 507
        assert got["error"]["code"] == "storage_limit_exceeded"
        assert "max_total under [files]" in got["error"]["message"]
        check("ErrorResponse", got)
        assert (await files.ask("DELETE", f"/v1/files/{first['id']}"))[0] == 200
        await files.upload(b"x" * 2 * MIB)


def test_an_input_of_a_batch_has_a_limit_of_its_own() -> None:
    check_file("batch", "A.JSONL", BATCH_MAX)
    with pytest.raises(Invalid, match="too large for Batch API"):
        check_file("batch", "a.jsonl", BATCH_MAX + 1)


async def test_a_client_that_leaves_half_way_leaves_nothing(files: Desk) -> None:
    sent = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield WHOLE[: WHOLE.index(b"hello")]
        for _ in range(4):
            yield b"x" * MIB
        sent.set()
        await asyncio.sleep(60)

    task = asyncio.ensure_future(files.ask("POST", "/v1/files", data=half(), headers=WHOLE_HEADERS))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while files.names():  # noqa: ASYNC110 - the folder has no event
            await asyncio.sleep(0.01)
    assert (await files.ask("GET", "/v1/files"))[1]["data"] == []


async def test_a_folder_that_cannot_be_used_is_told_and_not_a_failure_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    async with desk(f'[files]\nfolder = "{tmp_path / "file" / "files"}"\n') as files:
        status, got = await files.ask("POST", "/v1/files", data=form(purpose="user_data"))

        assert (status, got["error"]["code"]) == (503, "store_unavailable")
        assert str(tmp_path) not in got["error"]["message"]


# --- lists ----------------------------------------------------------------------------------------------------------


async def test_files_are_listed_newest_first_by_pages_and_by_purpose(files: Desk) -> None:
    ids = [
        (await files.upload(name=f"{number}.jsonl", purpose="batch" if number % 2 else "user_data"))["id"]
        for number in range(5)
    ]
    status, got = await files.ask("GET", "/v1/files")
    assert status == 200
    check("ListFilesResponse", {**got, "data": []})
    assert [each["id"] for each in got["data"]] == ids[::-1]
    assert (got["first_id"], got["last_id"], got["has_more"]) == (ids[-1], ids[0], False)
    _, got = await files.ask("GET", "/v1/files?order=asc&limit=2")
    assert ([each["id"] for each in got["data"]], got["has_more"]) == (ids[:2], True)
    _, got = await files.ask("GET", f"/v1/files?order=asc&limit=2&after={ids[1]}")
    assert ([each["id"] for each in got["data"]], got["has_more"]) == (ids[2:4], True)
    _, got = await files.ask("GET", "/v1/files?purpose=batch")
    assert [each["id"] for each in got["data"]] == [ids[3], ids[1]]
    assert (await files.ask("GET", "/v1/files?purpose="))[1] == (await files.ask("GET", "/v1/files"))[1]
    assert (await files.ask("GET", "/v1/files?purpose=nothing"))[1]["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "after=file-none"])
async def test_a_wrong_page_is_refused(files: Desk, query: str) -> None:
    status, got = await files.ask("GET", f"/v1/files?{query}")

    assert status == 400, got
    check("ErrorResponse", got)
    assert got["error"]["param"] == query.partition("=")[0]


async def test_a_file_that_is_not_there_is_told_in_openais_words(files: Desk) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        for id in ("file-none", "..%2F..%2Fetc%2Fpasswd", "%00", "x" * 3000):
            status, got = await files.ask(method, f"/v1/files/{id}{path}")
            assert status == 404, got
            check("ErrorResponse", got)
    assert got["error"]["message"] == f"No such File object: {'x' * 100}"


async def test_of_two_who_delete_a_file_one_does(files: Desk) -> None:
    made = await files.upload()
    path = f"/v1/files/{made['id']}"
    answers = await asyncio.gather(*(files.ask("DELETE", path) for _ in range(4)))

    assert sorted(status for status, _ in answers) == [200, 404, 404, 404]
    (done,) = [body for status, body in answers if status == 200]
    check("DeleteFileResponse", done)
    assert done == {"id": made["id"], "object": "file", "deleted": True}
    assert files.names() == []


# --- whose ----------------------------------------------------------------------------------------------------------


async def test_a_key_sees_its_own_files_only_and_the_machine_all() -> None:
    async with desk('[auth]\nmode = "on"\n') as files:
        one, two = await files.make_key("one"), await files.make_key("two")
        made = await files.upload(key=one)
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert (await files.ask(method, f"/v1/files/{made['id']}{path}", key=two))[0] == 404
        assert (await files.ask("GET", "/v1/files", key=two))[1]["data"] == []
        assert [each["id"] for each in (await files.ask("GET", "/v1/files", key=one))[1]["data"]] == [made["id"]]
        assert [each["id"] for each in (await files.ask("GET", "/v1/files", key=TOKEN))[1]["data"]] == [made["id"]]
        assert (await files.ask("POST", "/v1/files", data=form(purpose="user_data")))[0] == 401
        assert (await files.ask("DELETE", f"/v1/files/{made['id']}", key=TOKEN))[0] == 200


# --- for other parts ------------------------------------------------------------------------------------------------


async def test_bytes_that_lie_there_become_a_file(files: Desk) -> None:
    async with files.app[BLOBS].open_new("file-result") as sink:
        await sink.write(b"{}\n")
        await sink.close()
    assert await file_of(files.app, "file-result", "") is None
    made = await keep_file(
        files.app, id="file-result", owner="", filename="out.jsonl", purpose="batch_output", expires=NOW + 10
    )
    fits(made)

    assert await file_of(files.app, "file-result", "") == made == (await files.ask("GET", "/v1/files/file-result"))[1]
    assert await file_of(files.app, "file-result", "another") is None
    assert await file_of(files.app, "file-result", None) == made
    assert (await files.content("file-result"))[1] == b"{}\n"


async def test_a_file_is_read_for_a_model_up_to_a_size(files: Desk) -> None:
    made = await files.upload(b"hello", name="notes.txt")

    assert await read_file(files.app, made["id"], "", 5) == (b"hello", "notes.txt")
    with pytest.raises(Invalid, match="too large to be read"):
        await read_file(files.app, made["id"], "", 4)
    with pytest.raises(NotFound, match="No such File object"):
        await read_file(files.app, made["id"], "another", 5)
    files.app[BLOBS].remove(made["id"])
    with pytest.raises(NotFound, match="No such File object"):
        await read_file(files.app, made["id"], "", 5)
    assert (await files.content(made["id"]))[0] == 404


# --- the SDK --------------------------------------------------------------------------------------------------------


async def test_the_official_sdk_does_all_of_it(files: Desk, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 1000)
    async with AsyncOpenAI(base_url=f"{files.url}/v1", api_key="x", max_retries=0) as client:
        made = await client.files.create(
            file=path, purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert (made.filename, made.bytes, made.status, made.expires_at) == ("in.jsonl", 9000, "processed", NOW + 3600)
        other = await client.files.create(file=("a.txt", b"hello", "text/plain"), purpose="user_data")
        assert [each.id async for each in client.files.list(limit=1)] == [other.id, made.id]
        assert [each.id async for each in client.files.list(purpose="batch")] == [made.id]
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == path.read_bytes()
        assert (await client.files.delete(made.id)).deleted is True
        assert (await client.files.wait_for_processing(other.id)).status == "processed"
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            await client.files.retrieve(made.id)
        with pytest.raises(openai.BadRequestError, match="is not one of"):
            await client.files.create(file=b"x", purpose="answers")  # type: ignore[arg-type]
    assert files.names() == [other.id]
