"""How the backends are, asked by us and not by the daemon, and whether the models can do what will be asked of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ..backends import table, weights
from ..backends.base import Backend, Health, Running, remaining_hint
from ..backends.embedded import CHAT_MODEL, INSTALL, NEEDED
from ..backends.fleet import Fleet
from ..backends.http import unexpected
from ..backends.ollama import resolve_url
from ..errors import OproxyError
from ..model import ModelInfo
from ..policy.options import options_for
from ..policy.redact import redact_url
from ..policy.route import Names
from .env import CHAT_NAME, EMBEDDING_NAME, address
from .findings import Finding, Scene, State
from .findings_config import same_place

__all__ = ["check_backends", "check_embedded"]

log = logging.getLogger(__name__)

SPEC = frozenset(table.Spec.__struct_fields__)
# How long one backend may take for one answer (seconds); a dead one must not keep the others from being told.
PATIENCE = 5.0
# A backend on this machine answers in some milliseconds.
SLOW_MS = 1000.0
# With less, in tokens, not even a short conversation fits.
SMALL = 4096


async def check_backends(scene: Scene) -> list[Finding]:
    """Ask every backend how it is, then look at the models behind the usual names. With a config that cannot be read
    these would be the defaults, of which nothing is to be said."""
    if scene.problems:
        return [Finding("backends", "note", "they were not asked, since the config has mistakes", "", "")]
    backends = {name: built(scene, name) for name in scene.settings.backends}
    fleet = Fleet(backends, clock=time.monotonic)
    try:
        states = await asyncio.gather(*(asked(backend) for backend in backends.values()))
        listed = await listing(fleet)
        found: list[Finding] = []
        for name, state in zip(backends, states, strict=True):
            found += backend_findings(scene, backends[name], state, len(fleet.members[name].models))
        if all(state.state == "down" for state in states):
            remedy = f"start one of them, or use the built-in model: oproxy models pull {CHAT_MODEL}"
            found.append(Finding("backends", "broken", "none of them can answer", "", remedy))
        return [*found, *await models_findings(scene, fleet, listed)]
    finally:
        await fleet.aclose()


def built(scene: Scene, name: str) -> Backend:
    """Make a backend as the daemon does, of the settings that it is made of."""
    settings = msgspec.structs.asdict(scene.settings.backends[name])
    fields = {field: value for field, value in settings.items() if field == "type" or field in SPEC}
    return table.build(name, env=scene.env, clock=time.monotonic, data_dir=scene.data, **fields)


async def asked(backend: Backend) -> Health:
    try:
        async with asyncio.timeout(PATIENCE):
            return await backend.check()
    except TimeoutError:
        return Health(state="down", detail=f"It did not answer within {PATIENCE:g} s.")
    except Exception as exc:
        return Health(state="down", detail=unexpected(exc, backend.name).message)


async def listing(fleet: Fleet) -> tuple[ModelInfo, ...]:
    """Return the models of all backends that tell them in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await fleet.listed()
    except TimeoutError:
        return tuple(info for member in fleet.members.values() for info in member.models)


def backend_findings(scene: Scene, backend: Backend, state: Health, count: int) -> Iterator[Finding]:
    """Yield what is to be said of one backend."""
    settings = scene.settings.backends[backend.name]
    url = resolve_url(settings.url, scene.env) if settings.type == "ollama" else settings.url
    name = f"backend {backend.name}"
    where = redact_url(url)
    if url and same_place(urlsplit(url), urlsplit(address(scene.settings))):
        what = "it is ourselves: every request would come back for ever"
        remedy = f"oproxy config set backends.{backend.name}.url http://127.0.0.1:11434"
        yield Finding(name, "broken", what, where, "unset OLLAMA_HOST" if not settings.url else remedy)
        return
    if state.state == "down":
        # What keeps the built-in model from answering is said by `check_embedded`.
        if backend.kind != "embedded":
            what = state.detail.removesuffix(backend.hint).strip() or "it does not answer"
            remedy = remaining_hint(state.detail, backend.hint)
            yield Finding(name, "warning", what, where, remedy)
        return
    parts = [state.version or "", f"{state.latency_ms:.0f} ms" if state.latency_ms is not None else ""]
    parts += [f"{count} {'model' if count == 1 else 'models'}", "not started yet" if state.state == "idle" else ""]
    yield Finding(name, "ok", ", ".join(filter(None, parts)), where)
    if (state.latency_ms or 0) > SLOW_MS:
        yield Finding(name, "note", f"it takes {state.latency_ms:.0f} ms to say its version", where)
    if not count:
        remedy = (
            ""
            if backend.kind == "openai"
            else f"oproxy models pull {'smollm2' if backend.kind == 'ollama' else CHAT_MODEL}"
        )
        yield Finding(name, "warning", "it has no model", where, remedy)


# --- models -------------------------------------------------------------------------------------------------------


async def models_findings(scene: Scene, fleet: Fleet, listed: Sequence[ModelInfo]) -> list[Finding]:
    """Look at the models that answer OpenAI's usual names, and at the aliases."""
    models = scene.settings.models
    names = Names(
        aliases=models.aliases, default=models.default, openai_names=models.openai_names, backends=tuple(fleet.members)
    )
    found = list(alias_findings(scene, names, listed))
    if not listed:
        return found
    chat = resolved(names, models.default or CHAT_NAME, listed)
    if chat is None:
        what = f"no backend has {models.default}" if models.default else f"no model answers {CHAT_NAME}"
        state: State = "broken" if models.default else "warning" if models.openai_names else "note"
        found.append(Finding("models", state, what, "models.default", "oproxy models list"))
    else:
        found += await model_findings(scene, fleet, chat)
    embedding = resolved(names, EMBEDDING_NAME, listed)
    if embedding is None:
        pull = "oproxy models pull all-minilm"
        found.append(Finding("models", "note", f"no model answers {EMBEDDING_NAME}", "", pull))
    else:
        found.append(Finding("models", "ok", f"{short(embedding)} answers {EMBEDDING_NAME}"))
    return found


def resolved(names: Names, name: str, listed: Sequence[ModelInfo]) -> ModelInfo | None:
    try:
        target = names.resolve(name, listed)
    except OproxyError:
        return None
    return target.info if target is not None else None


def alias_findings(scene: Scene, names: Names, listed: Sequence[ModelInfo]) -> Iterator[Finding]:
    for alias, target in scene.settings.models.aliases.items():
        if listed and resolved(names, target, listed) is None:
            what, remedy = f"{alias} stands for {target}, which no backend has", f"oproxy models alias rm '{alias}'"
            yield Finding("models", "warning", what, "models.aliases", remedy)


def short(info: ModelInfo) -> str:
    return info.id.removesuffix(":latest")


async def model_findings(scene: Scene, fleet: Fleet, info: ModelInfo) -> list[Finding]:
    """Say what the default model can do, and how its window fits what is set."""
    name = short(info)
    backend = fleet[info.backend]
    running: tuple[Running, ...] = ()
    try:
        async with asyncio.timeout(PATIENCE):
            info, running = await backend.show(info.id), await backend.running()
    except Exception:
        # How the backend is has been told; what its list says of the model must do.
        log.debug("%s could not be described", info.id, exc_info=True)
    can = info.capabilities
    if can is None:
        able = "its backend does not tell what it can do"
    else:
        able = (
            f"tools {'yes' if 'tools' in can else 'no, they are emulated'}, images {'yes' if 'vision' in can else 'no'}"
        )
    found = [Finding("models", "ok", f"{name} answers {CHAT_NAME}; {able}", info.backend)]
    return [*found, *window_findings(scene, info, running)]


def window_findings(scene: Scene, info: ModelInfo, running: Sequence[Running]) -> Iterator[Finding]:
    """Compare the window that requests ask for with what the model has, and with what others ask for."""
    models, name = scene.settings.models, short(info)
    options = msgspec.to_builtins(models.options)
    window = options_for(options, asked=info.id, info=info, num_ctx=models.num_ctx)[0].get("num_ctx")
    if scene.settings.backends[info.backend].type != "ollama":
        if info.context:
            yield Finding("window", "ok", f"{name} has {info.context} tokens", info.backend)
        return
    where, own = "models.num_ctx", scene.env.get("OLLAMA_CONTEXT_LENGTH", "")
    if window is None:
        what = (
            f"{name} gets Ollama's own window ({own or '4096 tokens on most machines'}); what does not fit is refused"
        )
        yield Finding("window", "note" if own else "warning", what, where, "oproxy config set models.num_ctx 8192")
        return
    full = f" of the {info.context} it was made for" if info.context and info.context != window else ""
    yield Finding("window", "ok", f"{name} is given {window} tokens{full}", where)
    if info.context and models.num_ctx > info.context:
        what = f"num_ctx is {models.num_ctx}, but {name} was made for {info.context}, which is what it gets"
        yield Finding("window", "note", what, where)
    if window < SMALL and (not info.context or info.context > window):
        what = f"{window} tokens are soon used up, and what does not fit is refused"
        yield Finding("window", "note", what, where, "oproxy config set models.num_ctx 8192")
    if own.isdigit() and int(own) != window:
        what = f"OLLAMA_CONTEXT_LENGTH is {own}: a model that others use too is loaded anew at each change"
        yield Finding("window", "warning", what, "OLLAMA_CONTEXT_LENGTH", f"oproxy config set models.num_ctx {own}")
    other = next((run for run in running if run.id == info.id and run.context and run.context != window), None)
    if other is not None:
        what = f"{name} is in memory with {other.context} tokens, by another program; our next request loads it anew"
        remedy = f"let all ask for the same: oproxy config set models.num_ctx {other.context}"
        yield Finding("window", "note", what, where, remedy)


# --- the embedded model -------------------------------------------------------------------------------------------


async def check_embedded(scene: Scene) -> list[Finding]:
    """Say whether the built-in model could answer."""
    found: list[Finding] = []
    for name, backend in scene.settings.backends.items():
        if backend.type == "embedded":
            found += embedded_findings(scene, name, (backend.model_path, backend.embedding_path))
    return found


def embedded_findings(scene: Scene, name: str, own: Sequence[str]) -> Iterator[Finding]:
    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        yield Finding("embedded", "note", f"the extra is not installed ({', '.join(missing)})", name, INSTALL)
    for setting, path in zip(("model_path", "embedding_path"), own, strict=True):
        if path and not Path(path).expanduser().is_file():
            remedy = f"oproxy config set backends.{name}.{setting} FILE"
            yield Finding("embedded", "broken", f"there is no {path}", f"backends.{name}.{setting}", remedy)
    if own[0] or missing:
        return
    here = weights.available(scene.data)
    if CHAT_MODEL in here:
        yield Finding(
            "embedded", "ok", f"{', '.join(here)} can answer where no other does", str(here[CHAT_MODEL].parent)
        )
    else:
        yield Finding("embedded", "note", "its model is not there", name, f"oproxy models pull {CHAT_MODEL}")
