"""Texts and images judged by a guard model, or by any other. Which one and how it is asked is decided by
`policy.guard`; the engine asks it, once for the limits however many questions that takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from ..engine import Engine
from ..errors import Invalid, ModelNotFound, UpstreamFailed
from ..events import Event, Fail, Text
from ..model import Ask, Completion, ModelInfo, Reasoning, Sampling
from ..policy import guard
from ..policy.books import Books
from ..policy.guard import Answer, Question
from ..policy.route import Target
from ..translate import moderations
from ..translate.moderations import ModerationAsk
from ..translate.shapes_moderations import ModerationRequest
from .decoding import decode_body
from .keys import ENGINE, NEW_ID, WORKERS
from .relay import relay_whole

__all__ = ["moderation_answer"]

HINT = "No model here can judge: fetch one, for instance `oproxy models pull llama-guard3:1b`."


async def moderation_answer(app: web.Application, body: bytes, books: Books) -> bytes:
    """Judge what a body holds."""
    engine = app[ENGINE]
    shape, fields = await decode_body(app, body, ModerationRequest, books)
    ask = await app[WORKERS].run(books.size, moderations.parse_shape, shape, fields)
    target = await judge_of(engine, ask, books)
    if target.info.id in moderations.OPENAI and engine.passes(target, "/chat/completions"):
        # OpenAI's own, or one that poses as it.
        books.notes["moderation"] = f"passed/{target.info.id}"
        return await relay_whole(app, books, "/moderations", fields, target)
    info = await engine.describe(target)
    judge = guard.judge_of(info)
    if ask.images and not guard.takes_images(judge, info):
        raise Invalid(
            f"Invalid content type. image_url is only supported by models that can see, and `{ask.model}` ({info.id}) "
            "cannot.",
            param="input",
            code="invalid_content_type",
        )
    books.notes["moderation"] = f"{'chat' if judge == 'chat' else 'guard'}/{info.id}"
    # Of an empty text nothing is asked.
    puts = [() if guard.empty(thing) else guard.questions(judge, thing) for thing in ask.things]
    answers = iter(await answered(engine, [question for put in puts for question in put], target, books))
    books.ignored = ask.ignored
    found = [scores_of(judge, [next(answers) for _ in put], info) for put in puts]
    return moderations.write(ask, found, id=f"modr-{app[NEW_ID]()[:32]}")


def scores_of(judge: guard.Judge, answers: Sequence[Answer], info: ModelInfo) -> Mapping[str, float]:
    """Return the scores of one thing by the answers about it. Raises UpstreamFailed where they are no verdict."""
    if not answers:
        return dict.fromkeys(moderations.CATEGORIES, 0.0)
    if (scores := guard.scores(judge, answers)) is None:
        raise UpstreamFailed(
            f"The model `{info.id}` gave no judgement. Set another model or method under [moderations].",
            backend=info.backend,
        )
    return scores


async def judge_of(engine: Engine, ask: ModerationAsk, books: Books) -> Target:
    """Return the model that judges: the one that was asked for, else the one of the settings, else one that fits."""
    if ask.model not in moderations.OPENAI:
        return await engine.route(ask.model, "chat", books)
    settings, names = engine.snapshot.settings.moderations, engine.snapshot.names
    listed = await engine.fleet.listed()
    name: str | None = settings.model or None
    if name is None and names.resolve(ask.model, listed, kind="chat") is None:
        info = guard.choose(listed, method=settings.method, sees=ask.images, usual=names.usual)
        name = f"{info.backend}/{info.id}" if info is not None else None
    try:
        return await engine.route(ask.model, "chat", books, name=name)
    except ModelNotFound as exc:
        raise ModelNotFound(ask.model, hint=f"[moderations] model is `{name}`." if name else HINT) from exc


async def answered(engine: Engine, asked: Sequence[Question], target: Target, books: Books) -> list[Answer]:
    """Ask all questions, some of them at once; return their answers in their order."""
    if not asked:
        return []
    if asked[0].prompt:
        events = await engine.complete_whole([raw(question, books.asked) for question in asked], target, books)
    else:
        asks = [conversation(question, books.asked) for question in asked]
        events = await engine.chat_each(asks, target, books, param="input")
    return gathered(events, len(asked))


def raw(question: Question, model: str) -> Completion:
    """Return a question that is a prompt as it stands."""
    sampling = Sampling(max_tokens=question.limit, temperature=0.0)
    return Completion(model=model, prompt=question.prompt, sampling=sampling, logprobs=question.logprobs)


def conversation(question: Question, model: str) -> Ask:
    """Return a question that is a conversation. Nobody is to think about it at length."""
    return Ask(
        model=model,
        messages=question.messages,
        sampling=Sampling(max_tokens=question.limit, temperature=0.0),
        format=question.form,
        reasoning=Reasoning(effort="none"),
        top_logprobs=question.logprobs,
    )


def gathered(events: Sequence[Event], count: int) -> list[Answer]:
    """Return what was said to each question. Raises the error of one that failed."""
    texts: list[list[Text]] = [[] for _ in range(count)]
    for event in events:
        match event:
            case Fail(error):
                raise error
            case Text(index):
                texts[index].append(event)
    return [
        Answer("".join(each.text for each in pieces), [token for each in pieces for token in each.logprobs or ()])
        for pieces in texts
    ]
