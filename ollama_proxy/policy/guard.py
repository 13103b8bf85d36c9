"""Who judges texts, how they are asked, and what their verdicts mean in OpenAI's categories. Pure.

A guard is a model made for it: Llama Guard names the hazards it sees, ShieldGemma and Granite Guardian say Yes or No
to one policy at a time. Any other model is asked for a score for each category, in an answer that can be nothing else.
What is judged is data: no marks of a chat template in it reach a model, and no answer is taken for more than a verdict.
Never asks a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from ..events import Logprob
from ..model import Format, Image, Message, ModelInfo, Text
from .guard_words import CHAT, CHAT_SCHEMA, DEFINITIONS, GRANITE, HAZARDS, SHIELD, SHIELDGEMMA

__all__ = ["Answer", "Judge", "Question", "choose", "empty", "judge_of", "questions", "scores", "takes_images"]

Judge = Literal["llama-guard", "shieldgemma", "granite-guardian", "chat"]
Thing = Sequence[Text | Image]
Scores = dict[str, float]

# By the name without what names are written with, in the order in which they are chosen: the first tells most by one
# question. Llama Guard 1 and 2 number their hazards differently; the second ShieldGemma sees images only.
GUARDS: tuple[tuple[Judge, re.Pattern[str]], ...] = (
    ("llama-guard", re.compile(r"llamaguard[34]")),
    ("granite-guardian", re.compile(r"granite\d*guardian")),
    ("shieldgemma", re.compile(r"shieldgemma(?!24b)")),
)
# Granite Guardian 3.3 and later write <score> yes </score>.
SCORE = re.compile(r"<score>\s*(yes|no)\b", re.IGNORECASE)
YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
# How many alternatives of the word that decides are looked at.
ALTERNATIVES = 5
# What is at least so likely is flagged.
FLAGGED = 0.5


class Question(NamedTuple):
    """One question: a conversation, or a raw `prompt`; at most `limit` tokens are needed for its answer."""

    limit: int
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    form: Format = Format()
    logprobs: int | None = None


class Answer(NamedTuple):
    """What came: the text, and its tokens where the backend tells their probabilities."""

    text: str
    tokens: Sequence[Logprob] = ()


# --- who ----------------------------------------------------------------------------------------------------------


def judge_of(info: ModelInfo) -> Judge:
    """Return as what a model judges, by its name: no backend tells it otherwise."""
    name = re.sub(r"[^a-z0-9]", "", info.id.casefold().rpartition("/")[2])
    return next((judge for judge, pattern in GUARDS if pattern.search(name)), "chat")


def choose(
    listed: Sequence[ModelInfo],
    *,
    method: Literal["auto", "guard", "chat"],
    sees: bool,
    usual: Callable[[Sequence[ModelInfo]], ModelInfo | None],
) -> ModelInfo | None:
    """Return the model to ask where none was named: a guard if there is one, else the `usual` of the models that chat.
    `sees`: there are images to be judged. None where no model can be meant."""
    order = [judge for judge, _ in GUARDS]
    guards = sorted(
        (info for info in listed if (judge := judge_of(info)) != "chat" and (not sees or (takes_images(judge, info)))),
        key=lambda info: order.index(judge_of(info)),
    )
    if method != "chat" and guards:
        return guards[0]
    if method == "guard":
        return None
    others = [info for info in listed if judge_of(info) == "chat"]
    first = usual(others)
    if sees and first is not None and not _sees(first):
        return next((info for info in others if _sees(info) and info.can("completion")), first)
    return first


def takes_images(judge: Judge, info: ModelInfo) -> bool:
    """Return whether a model can be asked about images."""
    return judge == "chat" or (judge == "llama-guard" and _sees(info))


def _sees(info: ModelInfo) -> bool:
    return info.capabilities is not None and "vision" in info.capabilities


# --- the questions ------------------------------------------------------------------------------------------------


def questions(judge: Judge, thing: Thing) -> tuple[Question, ...]:
    """Return what to ask about one thing, which is texts and images."""
    match judge:
        case "llama-guard":
            parts = tuple(Text(unmarked(part.text)) if isinstance(part, Text) else part for part in thing)
            return (Question(64, (Message("user", parts),), logprobs=ALTERNATIVES),)
        case "shieldgemma":
            text = unmarked(joined(thing))
            return tuple(
                Question(4, prompt=SHIELDGEMMA.format(text=text, policy=policy), logprobs=ALTERNATIVES)
                for policy in SHIELD.values()
            )
        case "granite-guardian":
            user = Message("user", (Text(unmarked(joined(thing))),))
            # Its templates know the risks by their names, given as system prompt.
            return tuple(
                Question(32, (Message("system", (Text(risk),)), user), logprobs=ALTERNATIVES) for risk in GRANITE
            )
        case "chat":
            return (Question(1024, in_words(thing), form=Format("schema", "moderation", CHAT_SCHEMA, strict=True)),)


def empty(thing: Thing) -> bool:
    """Return whether there is nothing to be judged."""
    return all(isinstance(part, Text) and not part.text.strip() for part in thing)


def joined(thing: Thing) -> str:
    return "\n\n".join(part.text for part in thing if isinstance(part, Text)).strip()


def unmarked(text: str) -> str:
    """Return text in which nothing reads as a mark of a template (`<|eot_id|>`, `<end_of_turn>`): llama.cpp takes such
    words for control tokens wherever they stand."""
    return re.sub(r"<(?=[|/]?[A-Za-z_|])|\[(?=/?INST])", r"\g<0> ", text)


def in_words(thing: Thing) -> tuple[Message, ...]:
    """Return the question to a model that is no guard. The texts are JSON strings, which they cannot leave."""
    texts = msgspec.json.encode({"content": [part.text for part in thing if isinstance(part, Text)]}).decode()
    data = Text(re.sub(r"<|\[(?=/?INST])", lambda mark: f"\\u{ord(mark[0]):04x}", texts))
    images = tuple(part for part in thing if isinstance(part, Image))
    return Message("system", (Text(CHAT),)), Message("user", (data, *images))


# --- the verdict --------------------------------------------------------------------------------------------------


def scores(judge: Judge, answers: Sequence[Answer]) -> Scores | None:
    """Return the score of every category, 0 to 1, by the answers to all `questions` in their order; None where an
    answer is no verdict."""
    match judge:
        case "llama-guard":
            return _hazards(answers[0])
        case "shieldgemma":
            return _combined(_policies(SHIELD, answers))
        case "granite-guardian":
            return _combined(_risks(_policies(GRANITE, answers)))
        case "chat":
            return _scored(answers[0].text)


def _hazards(answer: Answer) -> Scores | None:
    """Read `safe`, or `unsafe` with the hazards in a second line. What OpenAI has no category for is not flagged."""
    found = re.match(r"\s*(safe|unsafe)\b(.*)", answer.text, re.IGNORECASE | re.DOTALL)
    if found is None:
        return None
    total: Scores = dict.fromkeys(DEFINITIONS, 0.0)
    if found[1].lower() == "safe":
        return total
    likely = _likely(answer, "unsafe", "safe")
    for hazard in re.findall(r"\bS\d+\b", found[2].upper()):
        total |= dict.fromkeys(HAZARDS.get(hazard, ()), max(likely, FLAGGED))
    return total


def _policies(asked: Mapping[str, str], answers: Sequence[Answer]) -> dict[str, float] | None:
    """Return how likely each policy is violated; None where an answer is neither Yes nor No."""
    found: dict[str, float] = {}
    for name, answer in zip(asked, answers, strict=True):
        text = re.sub(r"<think>.*?</think>", "", answer.text, flags=re.DOTALL)
        said = SCORE.search(text) or YES_NO.search(text)
        if said is None:
            return None
        likely = _likely(Answer(said[1], answer.tokens), "yes", "no")
        found[name] = max(likely, FLAGGED) if said[1].lower() == "yes" else min(likely, 0.49)
    return found


def _risks(found: dict[str, float] | None) -> dict[str, float] | None:
    """Return Granite's risks as categories. It has a general one, "harm": what is only that counts as illicit."""
    if found is None:
        return None
    total = {GRANITE[risk]: value for risk, value in found.items() if GRANITE[risk]}
    if max(total.values()) < FLAGGED:
        total["illicit"] = max(total["illicit"], found["harm"])
    return total


def _combined(found: dict[str, float] | None) -> Scores | None:
    """Add the categories that are two in one, and those that nobody was asked about."""
    if found is None:
        return None
    violence = found["violence"]
    total = dict.fromkeys(DEFINITIONS, 0.0) | found
    for name, half in (("harassment/threatening", "harassment"), ("hate/threatening", "hate")):
        total[name] = min(found[half], violence)
    total["illicit/violent"] = min(found["illicit"], violence)
    return total


def _likely(answer: Answer, yes: str, no: str) -> float:
    """Return how likely `yes` was where the answer decided between the two words; 1 or 0, as it said, where nothing
    tells. A token may be the beginning of the word."""
    said = answer.text.strip().lower().startswith(yes)
    for token in answer.tokens:
        word = token.token.strip().lower()
        if not word or not (yes.startswith(word) or no.startswith(word)):
            continue
        chances = {True: 0.0, False: 0.0}
        for other in token.top or (token,):
            begin = other.token.strip().lower()
            if begin and yes.startswith(begin) != no.startswith(begin):
                chances[yes.startswith(begin)] += math.exp(min(0.0, other.logprob))
        both = chances[True] + chances[False]
        if both <= 0.0:
            break
        # Of the two alone, where both are told; else of all that could have come.
        if min(chances.values()) > 0.0:
            return chances[True] / both
        return chances[True] if chances[True] else max(0.0, 1.0 - chances[False])
    return 1.0 if said else 0.0


def _scored(text: str) -> Scores | None:
    """Read the scores a model wrote: one for each category, nothing less."""
    try:
        given = msgspec.json.decode(text, type=dict[str, float])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if not given.keys() >= DEFINITIONS.keys():
        return None
    return {name: min(1.0, max(0.0, given[name])) for name in DEFINITIONS}
