"""Files as clients meet them: raw forms, and the official SDK."""

from __future__ import annotations

import aiohttp

from tests.shapes import check

from .conftest import Setup


async def test_a_file_is_kept_and_comes_back_byte_for_byte(setup: Setup) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"\r\n--x\r\n\0\xff", filename="a.bin")
    form.add_field("purpose", "user_data")
    async with setup.http.post("/v1/files", data=form) as response:
        made = await response.json()
        assert response.status == 200, made
    async with setup.http.get(f"/v1/files/{made['id']}/content") as response:
        assert await response.read() == b"\r\n--x\r\n\0\xff"
    check("OpenAIFile", {key: value for key, value in made.items() if value is not None})
