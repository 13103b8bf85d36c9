"""One request: find the model, be let in, plan what the backend cannot do by itself, call it, relay what comes.

The engine knows neither HTTP requests nor JSON of a client: it takes hub values and gives batches of events.
Events that arrive together stay together (a batch), so that the server can write them in one go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from . import tokens
from .backends.base import Backend, Reply
from .backends.fleet import Borrowed, Fleet
from .backends.http import unexpected
from .backends.images import Allowance, ImageFetcher
from .errors import ModelNotFound, OproxyError
from .events import Fail, Finish, ToolStart, Usage
from .fanout import Batch, fan_out
from .gate import Gate
from .legs import Given, Leg, Legs, flushed, portions, read, read_whole, vectors_of, window_of
from .model import Ask, Call, Completion, Embedding, ModelInfo, Sampling, Text
from .policy import credentials
from .policy import plan as planning
from .policy.books import Books
from .policy.images import check_images, occurrences, remote_images, with_fetched
from .policy.memory import answer_cost
from .policy.meter import Meter
from .policy.options import options_for
from .policy.route import Names, Target
from .settings import Settings
from .translate.wire import Vectors
from .turns import Turns
from .workers import LARGE, Workers

__all__ = ["Books", "Engine", "Snapshot"]

# Names that are remembered, and the longest of them: where an alias is a pattern, clients choose what fits it.
KEPT, LONGEST_NAME = 1000, 200


class Snapshot:
    """The settings as one request sees them: a reload makes a new snapshot and never changes an old one."""

    __slots__ = ("names", "options", "settings")

    def __init__(self, settings: Settings, names: Names) -> None:
        self.settings = settings
        self.names = names
        self.options: dict[str, dict[str, Any]] = {
            name: {k: v for k, v in msgspec.structs.asdict(options).items() if v is not None}
            for name, options in settings.models.options.items()
        }


class Engine:
    """Answers questions with the fleet's models. `new_id` gives 24 or more random letters and digits."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        fleet: Fleet,
        images: ImageFetcher,
        gate: Gate,
        turns: Turns,
        workers: Workers,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.snapshot = snapshot
        self.fleet = fleet
        self.gate = gate
        self.turns = turns
        self.workers = workers
        self.images = images
        self.clock = clock
        self._new_id = new_id
        self._routes: dict[tuple[str, str | None], Target] = {}
        self._routed: tuple[Snapshot, int] | None = None
        # What the config gives a model, by the name asked for, as long as neither changes.
        self._given: dict[str, tuple[Snapshot, ModelInfo, dict[str, Any], dict[str, Any]]] = {}

    # --- finding the model ------------------------------------------------------------------------------------

    async def route(
        self, asked: str, kind: str | None, books: Books, *, name: str | None = None, fetch: bool = True
    ) -> Target:
        """Return which model of which backend answers `asked`; `name` is what stands for it. Raises ModelNotFound,
        which with `fetch` says how to fetch the model, or the error of a backend that is away (the model may well be
        there)."""
        # For the books and the headers; a client may call a model whatever it likes.
        books.asked = asked[:200]
        name = name or asked
        if (key := books.caller.key) is not None:
            credentials.check_model(key, asked)
            name = key.model or name
        target = await self._resolve(name, kind)
        if target is None:
            target = await self._resolve(name, kind, fresh=True)
        if target is None:
            down = self.fleet.down()
            # The model of a backend that is away may well be there.
            named = next((error for error in down if name.startswith(f"{error.backend}/")), None)
            if named is not None:
                raise named
            if down and len(down) == len(self.fleet.members):
                raise down[0]
            near = self.snapshot.names.near(name, await self.fleet.listed(), fetch=fetch)
            raise ModelNotFound(name, hint=near)
        books.backend, books.served = target.info.backend, target.info.id
        return target

    async def _resolve(self, asked: str, kind: str | None, *, fresh: bool = False) -> Target | None:
        listed = await self.fleet.listed(fresh=fresh)
        snapshot = self.snapshot
        state = (snapshot, self.fleet.version)
        if self._routed != state:
            self._routes.clear()
            self._routed = state
        key = (asked, kind)
        target = self._routes.get(key)
        if target is None:
            target = snapshot.names.resolve(asked, listed, kind=kind)
            if target is not None and len(asked) <= LONGEST_NAME:
                if len(self._routes) >= KEPT:
                    self._routes.clear()
                self._routes[key] = target
        return target

    async def describe(self, target: Target) -> ModelInfo:
        """Return all that the model's backend tells of it (cached by the backend)."""
        backend = target.info.backend
        try:
            return await self.fleet[backend].show(target.info.id)
        except OproxyError:
            raise
        except Exception as exc:
            raise unexpected(exc, backend) from exc

    def passes(self, target: Target, path: str) -> bool:
        """Return whether the model's backend speaks the client's own wire at `path` (below /v1)."""
        return path in self.fleet[target.info.backend].passes

    # --- answering --------------------------------------------------------------------------------------------

    async def chat(self, ask: Ask, target: Target, books: Books) -> AsyncGenerator[Batch]:
        """Continue a conversation: yield batches of events, choices numbered, one Usage at the end.

        Errors before the first event are raised; later ones are raised too (the caller decides how to tell).
        """
        return self._streamed(await self._chat_legs((ask,), target, books))

    async def chat_whole(self, ask: Ask, target: Target, books: Books) -> Batch:
        """The same, all events at once."""
        return await self._whole(await self._chat_legs((ask,), target, books))

    async def chat_each(self, asks: Sequence[Ask], target: Target, books: Books, *, param: str) -> Batch:
        """Continue several conversations for one request, which is let in once; an event's index tells whose it is.
        `param` is what the client calls them."""
        return await self._whole(await self._chat_legs(asks, target, books, param))

    async def _chat_legs(self, given: Sequence[Ask], target: Target, books: Books, param: str = "messages") -> Legs:
        info = await self.describe(target)
        given = await self._with_images(given, info, books)
        asks = [self._filled(ask, target, info) for ask in given]
        backend = self.fleet[info.backend]
        work, large = self.workers.run, books.size
        plans = [await work(large, planning.plan, ask, info, backend.wire.abilities) for ask in asks]
        copies = plans[0].copies
        books.ignored, books.stream = plans[0].ignored, asks[0].stream

        async def leg(number: int) -> Leg:
            ask, plan = asks[number // copies], plans[number // copies]
            mine = plan.copy(number % copies)
            reader = backend.wire.chat_reader(mine, backend=backend.name)
            call, own = await work(large, backend.wire.chat, mine, info), partial(tokens.estimate, ask)
            return Leg(backend, call, reader, plan.filters(), ask.model, param, window_of(mine, info), own, plan.blame)

        def size() -> int:
            return sum(map(tokens.estimate, asks))

        await self.gate.admit(books, size, sum((ask.sampling.max_tokens or 0) * ask.n for ask in asks))
        per = copies if len(asks) > 1 else None
        meter = Meter(books, self.clock, prompt=size, count=tokens.estimate_text, model=asks[0].model, copies=per)
        return Legs(leg, len(asks) * copies, meter)

    async def complete(
        self, prompts: Sequence[Completion], target: Target, books: Books, *, copies: int = 1
    ) -> AsyncGenerator[Batch]:
        """Continue texts: choice `i * copies + k` is the k-th continuation of prompt i."""
        return self._streamed(await self._text_legs(prompts, target, books, copies))

    async def complete_whole(
        self, prompts: Sequence[Completion], target: Target, books: Books, *, copies: int = 1
    ) -> Batch:
        """The same, all events at once."""
        return await self._whole(await self._text_legs(prompts, target, books, copies))

    async def _text_legs(self, prompts: Sequence[Completion], target: Target, books: Books, copies: int) -> Legs:
        info = await self.describe(target)
        backend = self.fleet[info.backend]
        asks = [self._with_completion_defaults(ask, target, info) for ask in prompts]
        books.stream = asks[0].stream

        async def leg(index: int) -> Leg:
            ask = asks[index // copies]
            if (k := index % copies) and ask.sampling.seed is not None:
                seed = msgspec.structs.replace(ask.sampling, seed=ask.sampling.seed + k)
                ask = msgspec.structs.replace(ask, sampling=seed)
            window, size = window_of(ask, info), partial(tokens.estimate_text, ask.prompt, ask.model)
            if ask.sampling.max_tokens == 0:
                # An answer of no tokens needs no model.
                usage = Usage(prompt=size(), completion=0, exact=False)
                return Leg(backend, None, Given([Finish(0, "length"), usage]), (), ask.model, "prompt", window, size)
            reader = backend.wire.completion_reader(ask, backend=backend.name)
            call = await self.workers.run(books.size, backend.wire.complete, ask, info)
            return Leg(backend, call, reader, (), ask.model, "prompt", window, size)

        def all_prompts() -> int:
            return tokens.estimate_texts([ask.prompt for ask in asks], asks[0].model)

        most = sum(ask.sampling.max_tokens or 0 for ask in asks) * copies
        await self.gate.admit(books, all_prompts, most)
        count = tokens.estimate_text
        meter = Meter(books, self.clock, count=count, model=asks[0].model, copies=copies, prompt=all_prompts)
        return Legs(leg, len(asks) * copies, meter)

    async def embed(self, ask: Embedding, target: Target, books: Books) -> Vectors:
        """Embed texts; `tokens` of the answer is always set (estimated where the backend does not count)."""
        info = await self.describe(target)
        backend = self.fleet[info.backend]
        options = {**self._options(target, info)[0], **ask.options}
        ask = msgspec.structs.replace(ask, model=info.id, options=options)
        call = await self.workers.run(books.size, backend.wire.embed, ask, info)
        await self.gate.admit(books, partial(tokens.estimate_texts, ask.inputs, info.id), 0)
        async with (opened := self._open(backend.name, call, books)) as reply:
            note_call(books, opened.waited)
            body = await reply.read(books.hold)
        books.answer = len(body)
        vectors = await self.workers.run(len(body), vectors_of, backend, call, ask, info, books.asked, reply, body)
        exact = vectors.tokens is not None
        count = vectors.tokens if vectors.tokens is not None else tokens.estimate_texts(ask.inputs, info.id)
        books.usage = Usage(prompt=count, completion=0, exact=exact)
        return Vectors(vectors.rows, count)

    async def load(self, target: Target, *, keep_alive: str | int | float | None = None) -> None:
        """Bring a model into memory with the window that its requests will have."""
        options, _ = self._options(target, await self.describe(target))
        configured = options.pop("keep_alive", None)
        keep_alive = keep_alive if keep_alive is not None else configured
        await self.fleet[target.info.backend].load(target.info.id, keep_alive=keep_alive, options=options)

    @asynccontextmanager
    async def relay(
        self, call: Call, target: Target, books: Books, *, prompt: Callable[[], int], answer: int = 0
    ) -> AsyncIterator[Reply]:
        """Send bytes of the backend's own wire; the caller passes the answer on and observes it. `prompt` counts the
        prompt's tokens, `answer` is the most tokens it asks for."""
        name = target.info.backend
        await self.gate.admit(books, prompt, answer)
        async with (opened := self._open(name, call, books)) as reply:
            note_call(books, opened.waited)
            yield reply

    def _open(self, backend: str, call: Call, books: Books) -> Borrowed:
        """Return a call that is made when it is its turn."""
        if self.turns.unlimited:
            return self.fleet.open(backend, call, behind=books.behind > 0)
        caller = books.caller
        lane = caller.id or caller.name or caller.address
        turn = self.turns.turn(backend, books.served, lane, late=books.behind > 1)
        return self.fleet.open(backend, call, turn, behind=books.behind > 0)

    def backend_of(self, target: Target) -> Backend:
        return self.fleet[target.info.backend]

    # --- the calls --------------------------------------------------------------------------------------------

    async def _streamed(self, legs: Legs) -> AsyncGenerator[Batch]:
        meter = legs.meter
        books = meter.books
        if legs.total == 1:
            source = self._call(legs, 0, books)
        else:
            source = fan_out(lambda n: self._call(legs, n, books), legs.total)
        try:
            async with aclosing(source) as batches:
                async for batch in batches:
                    if seen := meter.see(batch):
                        yield self._finished(seen)
        finally:
            # Also for an answer that broke off, or whose client left: it pays for what it got.
            rest = meter.close()
        yield [rest]

    async def _whole(self, legs: Legs) -> Batch:
        """Make one call without the machinery of streams, which costs more than the rest of a small answer."""
        if legs.total > 1:
            events: Batch = []
            async with aclosing(self._streamed(legs)) as batches:
                async for batch in batches:
                    events.extend(batch)
            return events
        leg = await legs.leg(0)
        body = b""
        if leg.call is not None:
            books = legs.meter.books
            opened = self._open(leg.backend.name, leg.call, books)
            try:
                async with opened as reply:
                    note_call(books, opened.waited)
                    body = await reply.read(books.hold)
            except asyncio.CancelledError:
                if opened.begun:
                    # The client left; the backend has read its prompt, by our estimate.
                    legs.meter.close()
                raise
            if reply.status >= 400:
                raise leg.refusal(reply, body)
        legs.meter.books.answer = len(body)
        batch = legs.meter.see(await self.workers.run(len(body), read_whole, leg, body))
        batch.append(legs.meter.close())
        return self._finished(batch)

    async def _call(self, legs: Legs, number: int, books: Books) -> AsyncGenerator[Batch]:
        leg = await legs.leg(number)
        if leg.call is not None:
            async with (opened := self._open(leg.backend.name, leg.call, books)) as reply:
                note_call(books, opened.waited)
                if reply.status >= 400:
                    raise leg.refusal(reply, await reply.read(books.hold))
                async for data in reply.chunks():
                    books.answer += len(data)
                    if (size := leg.reader.held + len(data)) >= LARGE:
                        async with aclosing(self._large(leg, data, size, books)) as batches:
                            async for batch in batches:
                                yield batch
                    elif batch := read(leg, data):
                        yield batch
        for batch in portions(await self.workers.run(books.answer, flushed, leg)):
            yield batch

    async def _large(self, leg: Leg, data: bytes, size: int, books: Books) -> AsyncGenerator[Batch]:
        """Read what may end a record of `size` bytes; yield its events in portions, between which others have their
        turn."""
        books.hold.take_answer(answer_cost(data))
        for batch in portions(await self.workers.run(size, read, leg, data)):
            yield batch
            await asyncio.sleep(0)

    def _finished(self, batch: Batch) -> Batch:
        """Give every tool call without an id one of ours; raise what ended the answer."""
        for place, event in enumerate(batch):
            match event:
                case ToolStart(id=""):
                    batch[place] = msgspec.structs.replace(event, id=f"call_{self._new_id()[:24]}")
                case Fail(error=error) if place == 0:
                    raise error
                case Fail():
                    return batch[: place + 1]
        return batch

    # --- what the config adds ---------------------------------------------------------------------------------

    async def _with_images(self, asks: Sequence[Ask], info: ModelInfo, books: Books) -> Sequence[Ask]:
        """Return the questions of one request with their images, those that are named by URL fetched."""
        if all(type(part) is Text for ask in asks for message in ask.messages for part in message.parts):
            return asks
        asks = [await self.workers.run(books.size, planning.settle_data_uris, ask) for ask in asks]
        server = self.snapshot.settings.server
        total = server.images_max_bytes
        inline = check_images(asks, most=server.images_max, total=total)
        remote = remote_images(asks)
        if not remote or not info.can("vision") or self.fleet[info.backend].wire.abilities.image_urls:
            # A model that sees nothing is refused by the plan; nothing is fetched for it.
            return asks
        allowance = Allowance(total=total, left=total - inline, occurs=occurrences(asks), hold=books.hold)
        fetched = await self.images.fetch_all(remote, allowance)
        return [with_fetched(ask, fetched) for ask in asks]

    def _options(self, target: Target, info: ModelInfo) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (backend options, sampling defaults) from [models.options] for this model.

        `num_ctx` depends on the served model alone, never on the alias: two windows for one model would make the
        backend reload it at each change.
        """
        known = self._given.get(target.asked)
        if known is None or known[0] is not self.snapshot or known[1] is not info:
            snapshot = self.snapshot
            found = options_for(
                snapshot.options, asked=target.asked, info=info, num_ctx=snapshot.settings.models.num_ctx
            )
            known = (snapshot, info, *found)
            if len(target.asked) <= LONGEST_NAME:
                if len(self._given) >= KEPT:
                    self._given.clear()
                self._given[target.asked] = known
        return dict(known[2]), known[3]

    def _filled(self, ask: Ask, target: Target, info: ModelInfo) -> Ask:
        """Return a question with what the config adds."""
        options, sampling = self._options(target, info)
        keep_alive = options.pop("keep_alive", None)
        return msgspec.structs.replace(
            ask,
            options={**options, **ask.options},
            keep_alive=ask.keep_alive if ask.keep_alive is not None else keep_alive,
            sampling=with_sampling(ask.sampling, sampling),
        )

    def _with_completion_defaults(self, ask: Completion, target: Target, info: ModelInfo) -> Completion:
        options, sampling = self._options(target, info)
        keep_alive = options.pop("keep_alive", None)
        return msgspec.structs.replace(
            ask,
            model=info.id,
            options={**options, **ask.options},
            keep_alive=ask.keep_alive if ask.keep_alive is not None else keep_alive,
            sampling=with_sampling(ask.sampling, sampling),
        )


def note_call(books: Books, waited: float) -> None:
    """Count a call that got its turn; of several calls of one request, the longest wait is told."""
    books.tries += 1
    if books.queued is None or waited > books.queued:
        books.queued = waited


def with_sampling(own: Sampling, defaults: Mapping[str, Any]) -> Sampling:
    """Fill what the client left open."""
    missing = {k: v for k, v in defaults.items() if getattr(own, k) in (None, ())}
    return msgspec.structs.replace(own, **missing) if missing else own
