"""Several daemons on one database: what another one has done meanwhile is not undone."""

from __future__ import annotations

import msgspec

from ollama_proxy.server.keys import RUNS
from ollama_proxy.server.shelf import kept

from .conftest import Setup
from .filing import desk
from .test_responses import ask, done, record, shown


async def test_a_response_that_another_daemon_cancelled_stays_cancelled(setup: Setup) -> None:
    setup.ollama.play("/api/chat", [record("Hel"), record("lo"), done()], delay=0.15)
    id = (await ask(setup, background=True))["id"]
    told = msgspec.json.encode({"response": {**await shown(setup, id), "status": "cancelled"}, "inputs": 1})
    assert await kept(
        setup.proxy.app,
        lambda objects: objects.change(id, kind="response", owner=None, status="cancelled", data=told),
    )
    run = setup.proxy.app[RUNS].get(id, None)
    assert run is not None
    assert run.task is not None
    await run.task
    assert (await shown(setup, id))["status"] == "cancelled"


async def test_a_file_whose_bytes_another_daemon_has_is_told_apart_from_none_at_all() -> None:
    async with desk() as made:
        file = await made.upload()
        (made.folder / file["id"]).unlink()
        status, answer = await made.ask("GET", f"/v1/files/{file['id']}/content")
        assert (status, "not kept on this machine" in answer["error"]["message"]) == (404, True)
        assert (await made.ask("GET", f"/v1/files/{file['id']}"))[0] == 200
