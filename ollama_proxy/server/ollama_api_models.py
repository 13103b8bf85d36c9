"""Ollama's own API around models: listing, describing, fetching and changing them.

What an Ollama behind us can do is passed on to it. With none, the models of all backends are told in Ollama's form, and
what only an Ollama can do is refused, saying so. Changing is an administrator's (`door`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from .. import framing
from ..backends.base import Backend, Progress, Reply, Running
from ..engine import Engine
from ..errors import Invalid, ModelNotFound, OproxyError, Unsupported, UpstreamDown, UpstreamFailed
from ..model import Call, ModelInfo
from ..policy import credentials
from ..policy.redact import redact_error
from ..policy.route import Target
from ..translate import ollama_front as front
from ..translate import ollama_front_write as write
from ..translate import ollama_pass
from ..translate.openai_errors import unreadable
from ..translate.openapi import Route
from ..translate.shapes_admin import ModelCommand
from ..translate.shapes_ollama import OllamaCopyRequest, OllamaCreateRequest, OllamaModelRequest, OllamaPullRequest
from .body import Passing, packed
from .generate import body_of
from .keys import BOOKS, ENGINE, WORKERS
from .middleware import head
from .models import chosen
from .ollama_api import stamp
from .ollama_api_relay import NDJSON, overlong
from .reply import json_bytes
from .row import Row

__all__ = ["ROWS"]

# The version whose API this is, for clients that ask before they dare. Plain numbers, for they compare them.
VERSION = "0.34.4"
# When what never ends ends: Ollama's own command calls more than 20 years "Forever".
FOREVER = 11_017_000_000.0
DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")


# --- what is there ----------------------------------------------------------------------------------------------------


async def tags(request: web.Request) -> web.Response:
    """GET /api/tags: the models of all backends, as their Ollama lists them or as it would, and the aliases."""
    engine = request.app[ENGINE]
    found = await asked_all(engine, "/api/tags")
    listed = await engine.fleet.listed()
    entries: dict[str, Any] = {}
    of_model: dict[tuple[str, str], Any] = {}
    for name in engine.fleet.members:
        infos = {info.id: info for info in listed if info.backend == name}
        mine = found.get(name) or [tag(info.id, info) for info in infos.values()]
        for entry in mine:
            id = str(entry.get("name", ""))
            of_model[name, id] = entry
            shown = tagged(id)
            shown = f"{name}/{shown}" if shown in entries else shown
            entries[shown] = {**entry, "name": shown, "model": shown}
    for alias, target in engine.snapshot.names.aliases(listed).items():
        info = target.info
        entry = of_model.get((info.backend, info.id)) or tag(alias, info)
        shown = tagged(alias)
        # Whoever asks for a model with its tag gets the model, even if an alias has its name without one.
        if shown == alias or shown not in entries:
            entries[shown] = {**entry, "name": shown, "model": shown}
    return answer({"models": allowed(request, list(entries.values()))})


async def running(request: web.Request) -> web.Response:
    """GET /api/ps: the models in memory, of all backends."""
    engine = request.app[ENGINE]
    found = await asked_all(engine, "/api/ps")
    listed = {(info.backend, info.id): info for info in await engine.fleet.listed()}
    entries = [entry for mine in found.values() for entry in mine]
    for name, member in engine.fleet.members.items():
        if member.backend.kind == "ollama":
            continue
        entries += [loaded(run, listed.get((name, run.id))) for run in await member.runs()]
    return answer({"models": allowed(request, entries)})


async def version(request: web.Request) -> web.Response:
    """GET /api/version: that of the first Ollama that answers; with none, the one whose API this is."""
    engine = request.app[ENGINE]
    for backend in ollamas(engine):
        health = await engine.fleet.members[backend.name].check()
        if health.version:
            return answer({"version": health.version})
    return answer({"version": VERSION})


async def show(request: web.Request) -> web.StreamResponse:
    """POST /api/show."""
    engine = request.app[ENGINE]
    fields, name = await naming(request)
    target = await engine.route(name, None, request[BOOKS])
    if engine.backend_of(target).kind == "ollama":
        body = ollama_pass.with_name(fields, target.info.id, "model", "name")
        call = Call("POST", "/api/show", body)
        return await forwarded(request, target.info.backend, call, whole=ollama_pass.describes)
    info = await engine.describe(target)
    return answer(write.show(info, modified=stamp(info.created)))


async def status(request: web.Request) -> web.StreamResponse:
    """GET /api/status: what Ollama tells of its cloud."""
    if backends := ollamas(request.app[ENGINE]):
        return await forwarded(request, backends[0].name, Call("GET", "/api/status"), whole=ollama_pass.is_record)
    return answer({"cloud": {"disabled": True, "source": "none"}})


# --- changing it ------------------------------------------------------------------------------------------------------


async def pull(request: web.Request) -> web.StreamResponse:
    """POST /api/pull: NDJSON of progress, or with `stream` false only its end."""
    engine, books = request.app[ENGINE], request[BOOKS]
    _, fields = front.opened(await body_of(request))
    if not (name := front.named(fields)):
        raise Invalid("invalid model name", param="model")
    backend, model = chosen(engine, ModelCommand(name))
    books.asked, books.backend, books.served = name[:200], backend.name, model
    if backend.kind == "ollama":
        body = ollama_pass.with_name(fields, model, "model", "name")
        return await changed(request, backend.name, Call("POST", "/api/pull", body), progress=True)
    streams = bytes(fields.get("stream", b"")) != b"false"
    response = web.StreamResponse(headers={**head(request), "content-type": NDJSON})
    async with aclosing(steps(backend, model)) as progress:
        async for line in progress:
            if not streams:
                continue
            if not response.prepared:
                await response.prepare(request)
            await response.write(line)
    await engine.fleet.listed(fresh=True)
    if not streams:
        return answer({"status": "success"})
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


async def steps(backend: Backend, model: str) -> AsyncGenerator[bytes]:
    """Yield the lines of a pull; an error before the first is raised, a later one becomes the last line."""
    begun = False
    last = ""
    try:
        async for step in backend.pull(model):
            begun, last = True, step.status
            yield line_of(step)
    except OproxyError as exc:
        if not begun:
            raise
        yield write.error_line(exc)
        return
    if last != "success":
        yield line_of(Progress("success"))


def line_of(step: Progress) -> bytes:
    return framing.line(msgspec.json.encode({k: value for k, value in msgspec.structs.asdict(step).items() if value}))


async def delete(request: web.Request) -> web.StreamResponse:
    """DELETE /api/delete: only a model by its own name, for an alias is none."""
    engine = request.app[ENGINE]
    fields, name = await naming(request)
    target = await engine.route(name, None, request[BOOKS], fetch=False)
    if target.via != "listed":
        raise Invalid(
            f"'{name}' is another name of '{target.info.id}', not a model of its own. Delete '{target.info.id}' if you "
            "mean it, or remove the alias with `oproxy models alias rm`.",
            param="model",
        )
    backend = engine.backend_of(target)
    if backend.kind == "ollama":
        body = ollama_pass.with_name(fields, target.info.id, "model", "name")
        return await changed(request, backend.name, Call("DELETE", "/api/delete", body), empty=True)
    await backend.delete(target.info.id)
    await engine.fleet.listed(fresh=True)
    return web.Response()


async def copy(request: web.Request) -> web.StreamResponse:
    """POST /api/copy {"source", "destination"}."""
    engine = request.app[ENGINE]
    _, fields = front.opened(await body_of(request))
    source = front.named(fields, "source")
    if not source or not front.named(fields, "destination"):
        raise Invalid("source and destination are required")
    target = await engine.route(source, None, request[BOOKS], fetch=False)
    body = ollama_pass.with_name(fields, target.info.id, "source")
    return await changed(request, own(engine, target).name, Call("POST", "/api/copy", body), empty=True)


async def create(request: web.Request) -> web.StreamResponse:
    """POST /api/create: on the Ollama that has the model it is made `from`, by any name we know that by."""
    engine = request.app[ENGINE]
    backend = only(engine)
    body, fields = front.opened(await body_of(request))
    if source := front.named(fields, "from"):
        try:
            target = await engine.route(source, None, request[BOOKS])
        except ModelNotFound:
            # Ollama fetches what it does not have.
            return await changed(request, backend.name, Call("POST", "/api/create", body), progress=True)
        backend = own(engine, target)
        body = ollama_pass.with_name(fields, target.info.id, "from")
    return await changed(request, backend.name, Call("POST", "/api/create", body), progress=True)


async def push(request: web.Request) -> web.StreamResponse:
    """POST /api/push."""
    engine = request.app[ENGINE]
    _, fields = front.opened(await body_of(request))
    if not (name := front.named(fields)):
        raise Invalid("invalid model name", param="model")
    target = await engine.route(name, None, request[BOOKS], fetch=False)
    body = ollama_pass.with_name(fields, target.info.id, "model", "name")
    return await forwarded(request, own(engine, target).name, Call("POST", "/api/push", body), progress=True)


async def blob(request: web.Request) -> web.StreamResponse:
    """HEAD and POST /api/blobs/{digest}: whether a file is there; a file for `create`, sent on as it comes."""
    digest = request.match_info["digest"]
    if not DIGEST.fullmatch(digest):
        raise Invalid("invalid digest format")
    engine = request.app[ENGINE]
    path = f"/api/blobs/{digest}"
    if request.method == "HEAD":
        return await forwarded(request, only(engine).name, Call("HEAD", path), empty=True)
    kept = {name: request.headers[name] for name in ("content-length", "content-type") if name in request.headers}
    if packed(request):
        # It is sent on unpacked.
        kept.pop("content-length", None)
    passing = Passing(request)
    upload = Call("POST", path, headers=kept, as_is=True, upload=passing.chunks())
    try:
        return await forwarded(request, only(engine).name, upload, empty=True)
    except OproxyError:
        if passing.error is not None:
            raise passing.error from None
        raise


async def account(request: web.Request) -> web.StreamResponse:
    """POST /api/me, POST /api/signout: the account that Ollama itself has at its maker's."""
    backend = only(request.app[ENGINE])
    return await forwarded(
        request, backend.name, Call("POST", request.path.rstrip("/"), await body_of(request)), empty=True
    )


# --- on their way -----------------------------------------------------------------------------------------------------


async def changed(
    request: web.Request, backend: str, call: Call, *, empty: bool = False, progress: bool = False
) -> web.StreamResponse:
    """Pass on what changes the models, and look at them anew afterwards."""
    try:
        return await forwarded(request, backend, call, empty=empty, progress=progress)
    finally:
        await request.app[ENGINE].fleet.listed(fresh=True)


async def forwarded(
    request: web.Request,
    backend: str,
    call: Call,
    *,
    empty: bool = False,
    progress: bool = False,
    whole: Callable[[bytes], bool] | None = None,
) -> web.StreamResponse:
    """Pass a call on and its answer back: a stream as it comes, else one record. `empty`: there need not be any;
    `progress`: the last record says how it went; `whole`: the answer is never a stream, and this says whether it is
    one. What is no answer is an error."""
    async with request.app[ENGINE].fleet.open(backend, call) as reply:
        kind = reply.headers.get("content-type", "")
        if reply.status < 400 and kind.startswith(NDJSON) and whole is None and not whole_wanted(call):
            return await streamed(request, reply, backend)
        body = await reply.read(request[BOOKS].hold)
        if reply.status >= 400 and not body and request.method != "HEAD":
            raise UpstreamFailed(f"The backend '{backend}' refused the request ({reply.status}).", backend=backend)
        if reply.status < 400 and (body.strip() or not empty):
            body = ollama_pass.one_record(body, backend)
            if ollama_pass.has_error(body):
                wire, books = request.app[ENGINE].fleet[backend].wire, request[BOOKS]
                raise wire.error(502, body, backend=backend, model=books.asked)
            if (progress and not ollama_pass.ends_progress(body)) or (whole is not None and not whole(body)):
                raise unreadable(body, backend)
            kind = kind if "json" in kind and not kind.startswith(NDJSON) else "application/json; charset=utf-8"
        headers = {"content-type": kind} if kind else {}
        return web.Response(status=reply.status, body=body or None, headers=headers)


def whole_wanted(call: Call) -> bool:
    """Return whether a call asks for one record in place of a stream."""
    try:
        return msgspec.json.decode(call.body or b"{}", type=Streams).stream is False
    except msgspec.MsgspecError:
        return False


class Streams(msgspec.Struct):
    stream: bool | None = None


async def streamed(request: web.Request, reply: Reply, backend: str) -> web.StreamResponse:
    """Pass a stream of progress on. Its last record says "success", or is an error."""
    response = web.StreamResponse(status=reply.status, headers={**head(request), "content-type": NDJSON})
    renamer = ollama_pass.Renamer(None)
    last = b""
    try:
        async for data in reply.chunks():
            lines = await request.app[WORKERS].run(renamer.held + len(data), renamer.feed, data)
            last = await pass_lines(request, response, lines) or last
            if renamer.broken is not None:
                raise unreadable(renamer.broken, backend)
        if rest := renamer.flush():
            last = await pass_lines(request, response, rest + b"\n") or last
        if not ollama_pass.ends_progress(last):
            raise UpstreamDown(f"The backend '{backend}' ended its answer before it was complete.", backend=backend)
    except (OproxyError, framing.Overlong) as exc:
        error = exc if isinstance(exc, OproxyError) else overlong(exc, backend)
        if not response.prepared:
            raise error from exc
        await response.write(redact_error(write.error_line(error)))
    await response.write_eof()
    return response


async def pass_lines(request: web.Request, response: web.StreamResponse, lines: bytes) -> bytes:
    """Send whole lines on; return the last of them. The first ones begin the answer."""
    if lines:
        if not response.prepared:
            await response.prepare(request)
        await response.write(framing.escape_breaks(lines))
    return lines[:-1].rpartition(b"\n")[2]


async def naming(request: web.Request) -> tuple[Mapping[str, msgspec.Raw], str]:
    """Return a body's keys and the model it names."""
    _, fields = front.opened(await body_of(request))
    if not (name := front.named(fields)):
        raise Invalid("model is required", param="model")
    return fields, name


def ollamas(engine: Engine) -> list[Backend]:
    return [member.backend for member in engine.fleet.members.values() if member.backend.kind == "ollama"]


def only(engine: Engine) -> Backend:
    """Return the Ollama that does what only an Ollama can: the first. Raises Unsupported where there is none."""
    if backends := ollamas(engine):
        return backends[0]
    raise Unsupported(
        'This needs an Ollama server, and none is configured. Add one with type = "ollama" under [backends].'
    )


def own(engine: Engine, target: Target) -> Backend:
    """Return the Ollama that has a model. Raises Unsupported for a model of another backend."""
    backend = engine.backend_of(target)
    if backend.kind == "ollama":
        return backend
    raise Unsupported(
        f"The model '{target.info.id}' is of the backend '{backend.name}', which is no Ollama and cannot do this."
    )


async def asked_all(engine: Engine, path: str) -> dict[str, list[dict[str, Any]]]:
    """Return the models of a list of Ollama's, by backend; one that is away has none."""
    names = [backend.name for backend in ollamas(engine)]
    return dict(zip(names, await asyncio.gather(*(asked(engine, name, path) for name in names)), strict=True))


async def asked(engine: Engine, backend: str, path: str) -> list[dict[str, Any]]:
    try:
        async with engine.fleet.open(backend, Call("GET", path)) as reply:
            body = await reply.read()
        found = msgspec.json.decode(body, type=dict[str, list[dict[str, Any]] | None])
    except (OproxyError, msgspec.MsgspecError, ValueError, RecursionError):
        return []
    return found.get("models") or []


def allowed(request: web.Request, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the models that the caller's key is for, each by a name that it may ask for: with or without its tag."""
    key = request[BOOKS].caller.key
    if key is None or not key.models:
        return entries
    found = []
    for entry in entries:
        full = str(entry.get("name", ""))
        for name in (full, full.removesuffix(":latest")):
            if credentials.allows(key.models, name):
                found.append(entry if name == full else {**entry, "name": name, "model": name})
                break
    return found


def tagged(name: str) -> str:
    """Return a model's name with a tag, as Ollama lists all of them."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def tag(name: str, info: ModelInfo) -> dict[str, Any]:
    return write.tag(name, info, modified=stamp(info.created))


def loaded(run: Running, info: ModelInfo | None) -> dict[str, Any]:
    """Return the entry of /api/ps for a model that no Ollama runs."""
    entry = tag(tagged(run.id), info or ModelInfo(id=run.id, backend=run.backend))
    return {
        **{key: entry[key] for key in ("name", "model", "digest", "details")},
        "size": run.size or entry["size"],
        "size_vram": run.size_vram or 0,
        "expires_at": stamp(run.expires_at if run.expires_at is not None else FOREVER),
        "context_length": run.context or 0,
    }


def answer(body: dict[str, Any]) -> web.Response:
    return json_bytes(msgspec.json.encode(body))


ROWS: tuple[Row, ...] = (
    Row(Route("GET", "/api/tags", "List the models and aliases", None, "Ollama"), tags),
    Row(Route("GET", "/api/ps", "The models in memory", None, "Ollama"), running),
    Row(Route("GET", "/api/version", "Ollama's version", None, "Ollama"), version),
    Row(Route("GET", "/api/status", "The state of Ollama's cloud", None, "Ollama"), status),
    Row(Route("POST", "/api/show", "Describe a model", OllamaModelRequest, "Ollama"), show),
    Row(Route("POST", "/api/pull", "Fetch a model, with progress", OllamaPullRequest, "Ollama"), pull),
    Row(Route("POST", "/api/push", "Publish a model", OllamaPullRequest, "Ollama"), push),
    Row(Route("POST", "/api/create", "Make a model", OllamaCreateRequest, "Ollama"), create),
    Row(Route("POST", "/api/copy", "Copy a model", OllamaCopyRequest, "Ollama"), copy),
    Row(Route("DELETE", "/api/delete", "Delete a model", OllamaModelRequest, "Ollama"), delete),
    Row(Route("HEAD", "/api/blobs/{digest}", "Whether a file for `create` is there", None, "Ollama"), blob),
    Row(Route("POST", "/api/blobs/{digest}", "Send a file for `create`", None, "Ollama", raw=True), blob),
    Row(Route("POST", "/api/me", "Ollama's own account", None, "Ollama"), account),
    Row(Route("POST", "/api/signout", "Leave Ollama's own account", None, "Ollama"), account),
)
