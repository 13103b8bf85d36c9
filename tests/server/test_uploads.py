"""Uploads in parts, as clients meet them: raw, and by the official SDK."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from ollama_proxy.server.keys import BLOBS, UPLOADS
from ollama_proxy.server.sweep import sweep
from ollama_proxy.translate.shapes_files import PART_MAX, UPLOAD_MAX
from tests.shapes import check

from .filing import NOW, TOKEN, Desk, desk, form, raw_form

MIB = 1 << 20
HOUR = 3600
BODY = {"filename": "a.txt", "purpose": "user_data", "bytes": 6, "mime_type": "text/plain"}


@pytest.fixture
async def files() -> AsyncIterator[Desk]:
    async with desk() as made:
        yield made


async def begin(files: Desk, **fields: Any) -> Any:
    key = fields.pop("key", "")
    status, made = await files.ask("POST", "/v1/uploads", json={**BODY, **fields}, key=key)
    assert status == 200, made
    return made


async def part(files: Desk, upload: str, data: bytes, key: str = "") -> str:
    status, made = await files.ask("POST", f"/v1/uploads/{upload}/parts", data=form(data, field="data"), key=key)
    assert status == 200, made
    check("UploadPart", made)
    assert made == {"id": made["id"], "object": "upload.part", "created_at": NOW, "upload_id": upload}
    id: str = made["id"]
    return id


async def complete(files: Desk, upload: str, *parts: str, **fields: Any) -> tuple[int, Any]:
    return await files.ask("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": parts, **fields})


async def test_parts_are_joined_in_the_order_they_are_listed(files: Desk) -> None:
    made = await begin(files)
    check("Upload", {key: value for key, value in made.items() if key != "file"})
    assert made == {
        "id": made["id"],
        "object": "upload",
        "bytes": 6,
        "created_at": NOW,
        "expires_at": NOW + HOUR,
        "filename": "a.txt",
        "purpose": "user_data",
        "status": "pending",
        "file": None,
    }
    second, first = await part(files, made["id"], b"def"), await part(files, made["id"], b"abc")
    status, done = await complete(files, made["id"], first, second)

    assert status == 200, done
    file = done["file"]
    assert {**done, "file": None} == {**made, "status": "completed"}
    check("OpenAIFile", {key: value for key, value in file.items() if value is not None})
    assert (file["bytes"], file["filename"], file["purpose"], file["expires_at"]) == (6, "a.txt", "user_data", None)
    assert (await files.content(file["id"]))[1] == b"abcdef"
    assert (await files.ask("GET", f"/v1/files/{file['id']}"))[1] == file
    assert files.names() == [file["id"]]


async def test_a_part_that_is_not_listed_is_left_out(files: Desk) -> None:
    made = await begin(files)
    wrong, right = await part(files, made["id"], b"000000"), await part(files, made["id"], b"abcdef")
    _, done = await complete(files, made["id"], right)

    assert wrong != right
    assert (await files.content(done["file"]["id"]))[1] == b"abcdef"
    assert files.names() == [done["file"]["id"]]


@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_the_sum_of_the_parts_is_checked(files: Desk, case: Any) -> None:
    made = await begin(files)
    one = await part(files, made["id"], b"abcdef")
    for wrong in ("", "no sum", hashlib.md5(b"other", usedforsecurity=False).hexdigest(), "é" * 3000):
        status, got = await complete(files, made["id"], one, md5=wrong)
        assert (status, got["error"]["param"], got["error"]["code"]) == (400, "md5", "checksum_mismatch"), got
    sum = case(hashlib.md5(b"abcdef", usedforsecurity=False).hexdigest())

    assert (await complete(files, made["id"], one, md5=sum))[1]["status"] == "completed"


async def test_a_file_of_an_upload_expires_when_it_was_said(files: Desk) -> None:
    made = await begin(files, expires_after={"anchor": "created_at", "seconds": 7200})
    files.clock.now += 100
    status, got = await files.ask("POST", f"/v1/uploads/{made['id']}/parts", data=form(b"abcdef", field="data"))
    assert status == 200
    _, done = await complete(files, made["id"], got["id"])
    batch = await begin(files, purpose="batch", filename="a.jsonl", bytes=1)

    assert done["file"]["expires_at"] == NOW + 100 + 7200
    assert batch["purpose"] == "batch"


WRONG: list[tuple[Any, str, str | None]] = [
    ({"filename": None}, "Invalid type for 'filename': expected a string, but got null instead.", "filename"),
    ({"filename": ""}, "Invalid 'filename': empty string.", "filename"),
    ({"purpose": "answers"}, "'answers' is not one of [", "purpose"),
    ({"bytes": 0}, "Invalid 'bytes': integer below minimum value.", "bytes"),
    ({"bytes": UPLOAD_MAX + 1}, "Invalid 'bytes': integer above maximum value.", "bytes"),
    ({"bytes": "6"}, "Invalid type for 'bytes': expected an integer, but got a string instead.", "bytes"),
    ({"purpose": "batch"}, "Invalid file format for Batch API. Must be .jsonl", "file"),
    ({"expires_after": {"anchor": "created_at"}}, "Missing required parameter: 'expires_after.seconds'.", None),
    ({"expires_after": 5}, "Invalid type for 'expires_after'", "expires_after"),
]


async def test_a_wrong_upload_is_refused_in_openais_words(files: Desk) -> None:
    for fields, message, param in WRONG:
        status, got = await files.ask("POST", "/v1/uploads", json={**BODY, **fields})
        assert status == 400, (fields, got)
        check("ErrorResponse", got)
        assert message in got["error"]["message"]
        assert got["error"]["param"] == (param or "expires_after.seconds")
    for name in BODY:
        body = {key: value for key, value in BODY.items() if key != name}
        status, got = await files.ask("POST", "/v1/uploads", json=body)
        assert (status, got["error"]["message"]) == (400, f"Missing required parameter: '{name}'.")
    for raw in (b"", b"[]", b"{", b"null", b"\xff"):
        assert (await files.ask("POST", "/v1/uploads", data=raw))[0] == 400
    assert (await files.ask("POST", "/v1/uploads", json={**BODY, "expires_after": None}))[0] == 200


async def test_unknown_keys_are_named_as_ignored(files: Desk) -> None:
    async with files.http.post("/v1/uploads", json={**BODY, "colour": "red"}) as response:
        assert (response.status, response.headers["x-oproxy-ignored"]) == (200, "colour")


async def test_parts_that_do_not_make_the_file_are_refused_and_the_upload_goes_on(files: Desk) -> None:
    made = await begin(files)
    other = await begin(files)
    foreign = await part(files, other["id"], b"abcdef")
    one = await part(files, made["id"], b"abc")
    for parts, param, code in (
        ([foreign], "part_ids[0]", "part_not_found"),
        ([one, "part_none"], "part_ids[1]", "part_not_found"),
        ([one, one], "part_ids", "duplicate_part"),
        ([one], "part_ids", "upload_size_mismatch"),
        ([], "part_ids", "empty_array"),
        (None, "part_ids", "invalid_type"),
        ([7], "part_ids[0]", "invalid_type"),
    ):
        status, got = await files.ask("POST", f"/v1/uploads/{made['id']}/complete", json={"part_ids": parts})
        assert (status, got["error"]["param"], got["error"]["code"]) == (400, param, code), got
        check("ErrorResponse", got)
    two = await part(files, made["id"], b"def")

    assert (await complete(files, made["id"], one, two))[0] == 200
    assert (await complete(files, other["id"], foreign))[0] == 200


async def test_a_wrong_part_is_refused(files: Desk) -> None:
    made = await begin(files)
    path = f"/v1/uploads/{made['id']}/parts"
    for data in (form(b"", field="data"), form(b"abc", field="file")):
        status, got = await files.ask("POST", path, data=data)
        assert (status, got["error"]["param"]) == (400, "data"), got
    body, headers = raw_form(('name="data"', b"abc"))
    assert (await files.ask("POST", path, data=body, headers=headers))[0] == 400
    body, headers = raw_form(('name="data"; filename="x"', b"abc"), end=False)
    assert (await files.ask("POST", path, data=body, headers=headers))[0] == 400
    status, got = await files.ask(
        "POST", path, data=io.BytesIO(b"x"), headers={**headers, "content-length": str(PART_MAX + 2 * MIB)}
    )
    assert status == 413
    assert str(PART_MAX) in got["error"]["message"]
    assert files.names() == []


async def test_what_is_over_cannot_be_changed(files: Desk) -> None:
    done, gone, late = await begin(files), await begin(files), await begin(files)
    one = await part(files, done["id"], b"abcdef")
    await part(files, gone["id"], b"abcdef")
    await part(files, late["id"], b"abcdef")
    assert (await complete(files, done["id"], one))[0] == 200
    status, cancelled = await files.ask("POST", f"/v1/uploads/{gone['id']}/cancel")
    assert (status, cancelled) == (200, {**gone, "status": "cancelled"})
    files.clock.now += HOUR
    for swept in (False, True):
        for upload, word in ((done, "completed"), (gone, "cancelled"), (late, "expired")):
            for path, kwargs in (
                ("parts", {"data": form(b"x", field="data")}),
                ("complete", {"json": {"part_ids": [one]}}),
                ("cancel", {}),
            ):
                status, got = await files.ask("POST", f"/v1/uploads/{upload['id']}/{path}", **kwargs)
                assert (status, got["error"]["code"]) == (400, "invalid_upload_status"), got
                assert f"is {word}" in got["error"]["message"]
        if not swept:
            await sweep(files.app)
    assert len(files.names()) == 1
    files.clock.now += 86400
    assert (await files.ask("POST", f"/v1/uploads/{late['id']}/cancel"))[0] == 404
    assert await sweep(files.app) == 3
    assert len(files.names()) == 1


async def test_an_upload_that_is_not_there_is_told(files: Desk) -> None:
    for path, kwargs in (
        ("parts", {"data": form(b"x", field="data")}),
        ("complete", {"json": {"part_ids": ["part_1"]}}),
        ("cancel", {}),
    ):
        status, got = await files.ask("POST", f"/v1/uploads/upload_none/{path}", **kwargs)
        assert (status, got["error"]["message"]) == (404, "No such Upload object: upload_none")
        check("ErrorResponse", got)


async def test_completing_several_times_at_once_makes_one_file(files: Desk) -> None:
    made = await begin(files)
    one = await part(files, made["id"], b"abcdef")
    answers = await asyncio.gather(*(complete(files, made["id"], one) for _ in range(4)))

    assert sorted(status for status, _ in answers) == [200, 400, 400, 400]
    assert len((await files.ask("GET", "/v1/files"))[1]["data"]) == 1
    assert len(files.names()) == 1
    assert files.app[UPLOADS] == set()


async def test_completing_and_cancelling_at_once_does_one_of_them(files: Desk) -> None:
    for _ in range(3):
        made = await begin(files)
        one = await part(files, made["id"], b"abcdef")
        (done, _), (gone, _) = await asyncio.gather(
            complete(files, made["id"], one), files.ask("POST", f"/v1/uploads/{made['id']}/cancel")
        )
        listed = (await files.ask("GET", "/v1/files"))[1]["data"]
        assert sorted((done, gone)) == [200, 400]
        assert len(listed) == len(files.names()) == (done == 200)
        for each in listed:
            await files.ask("DELETE", f"/v1/files/{each['id']}")


async def test_a_client_that_leaves_while_parts_are_joined_has_its_file(files: Desk) -> None:
    made = await begin(files, bytes=8 * MIB)
    parts = [await part(files, made["id"], b"x" * 4 * MIB) for _ in range(2)]
    task = asyncio.ensure_future(complete(files, made["id"], *parts))
    while not files.app[UPLOADS]:  # noqa: ASYNC110 - nobody tells when it begins
        await asyncio.sleep(0.001)
    task.cancel()
    while files.app[UPLOADS]:  # noqa: ASYNC110
        await asyncio.sleep(0.001)

    (file,) = (await files.ask("GET", "/v1/files"))[1]["data"]
    assert file["bytes"] == 8 * MIB
    assert (await complete(files, made["id"], *parts))[1]["error"]["code"] == "invalid_upload_status"
    assert files.names() == [file["id"]]


async def test_bytes_that_are_gone_are_our_fault_and_the_upload_goes_on(files: Desk) -> None:
    made = await begin(files)
    one = await part(files, made["id"], b"abcdef")
    files.app[BLOBS].remove(one)
    status, got = await complete(files, made["id"], one)
    assert (status, got["error"]["code"]) == (503, "store_unavailable")

    again = await part(files, made["id"], b"abcdef")
    assert (await complete(files, made["id"], again))[0] == 200


async def test_uploads_keep_to_the_room_there_is() -> None:
    async with desk(f"[files]\nmax_total = {2 * MIB}\nmax_size = 1000\n") as files:
        status, got = await files.ask("POST", "/v1/uploads", json={**BODY, "bytes": 3 * MIB})
        assert (status, got["error"]["code"]) == (507, "storage_limit_exceeded")
        made = await begin(files, bytes=2 * MIB)
        one = await part(files, made["id"], b"x" * MIB)
        path = f"/v1/uploads/{made['id']}/parts"
        status, got = await files.ask("POST", path, data=form(b"x" * (MIB + 1), field="data"))
        assert (status, got["error"]["code"]) == (507, "storage_limit_exceeded")
        two = await part(files, made["id"], b"x" * MIB)

        assert (await complete(files, made["id"], one, two))[1]["file"]["bytes"] == 2 * MIB
        assert files.app[BLOBS].used == files.app[BLOBS].size() == 2 * MIB


async def test_a_key_has_its_own_uploads_only() -> None:
    async with desk('[auth]\nmode = "on"\n') as files:
        one, two = await files.make_key("one"), await files.make_key("two")
        made = await begin(files, key=one)
        id = await part(files, made["id"], b"abcdef", key=one)
        path = f"/v1/uploads/{made['id']}"
        body = {"part_ids": [id]}
        assert (await files.ask("POST", f"{path}/parts", data=form(b"x", field="data"), key=two))[0] == 404
        assert (await files.ask("POST", f"{path}/complete", json=body, key=two))[0] == 404
        assert (await files.ask("POST", f"{path}/cancel", key=two))[0] == 404
        status, done = await files.ask("POST", f"{path}/complete", json=body, key=TOKEN)
        assert status == 200, done

        assert [each["id"] for each in (await files.ask("GET", "/v1/files", key=one))[1]["data"]] == [
            done["file"]["id"]
        ]


async def test_the_official_sdk_does_all_of_it(files: Desk, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096 * 3
    path = tmp_path / "big.bin"
    path.write_bytes(data)
    async with AsyncOpenAI(base_url=f"{files.url}/v1", api_key="x", max_retries=0) as client:
        done = await client.uploads.upload_file_chunked(
            file=path, mime_type="application/octet-stream", purpose="user_data", part_size=MIB
        )
        assert done.file is not None
        assert (await client.files.content(done.file.id)).content == data
        made = await client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="assistants")
        one = await client.uploads.parts.create(made.id, data=b"abc")
        sum = hashlib.md5(b"abc", usedforsecurity=False).hexdigest()
        assert (await client.uploads.complete(made.id, part_ids=[one.id], md5=sum)).status == "completed"
        other = await client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="vision")
        assert (await client.uploads.cancel(other.id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError, match="is cancelled"):
            await client.uploads.parts.create(other.id, data=b"abc")
