"""POST /v1/moderations: its request into texts and images, scores into OpenAI's answer. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from ..errors import Invalid
from ..model import Image, Text
from .parts import image
from .shapes_chat import ImagePart, ImageUrl, TextPart
from .shapes_moderations import ModerationRequest
from .validate import ignored_keys, wrong_type

__all__ = ["CATEGORIES", "DEFAULT", "OPENAI", "ModerationAsk", "parse_shape", "write"]

DEFAULT = "omni-moderation-latest"
# OpenAI's names, none of which is a model that one could have.
OPENAI = (DEFAULT, "omni-moderation-2024-09-26", "text-moderation-latest", "text-moderation-stable")

# In OpenAI's order, with what each is judged by: images count for some only.
# https://platform.openai.com/docs/guides/moderation#content-classifications
TEXT, BOTH = ("text",), ("text", "image")
CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "harassment": TEXT,
    "harassment/threatening": TEXT,
    "sexual": BOTH,
    "hate": TEXT,
    "hate/threatening": TEXT,
    "illicit": TEXT,
    "illicit/violent": TEXT,
    "self-harm/intent": BOTH,
    "self-harm/instructions": BOTH,
    "self-harm": BOTH,
    "sexual/minors": TEXT,
    "violence": BOTH,
    "violence/graphic": BOTH,
}
# What the older models do not know.
NEWER = frozenset({"illicit", "illicit/violent"})
FLAGGED = 0.5


class ModerationAsk(Struct, frozen=True, kw_only=True):
    """A parsed request: `things` are to be judged one by one, each of them texts and images."""

    model: str
    things: tuple[tuple[Text | Image, ...], ...]
    ignored: tuple[str, ...] = ()

    @property
    def images(self) -> bool:
        """Whether there is anything to be seen."""
        return any(isinstance(part, Image) for thing in self.things for part in thing)


def parse_shape(wire: ModerationRequest, fields: Mapping[str, msgspec.Raw]) -> ModerationAsk:
    """Read a request that `validate.decode` has decoded. Raises errors.Invalid."""
    ask = ModerationAsk(
        model=wire.model or DEFAULT, things=_things(wire.input), ignored=ignored_keys(fields, ModerationRequest)
    )
    if ask.images and ask.model.startswith("text-moderation"):
        raise Invalid(
            f"Invalid content type. image_url is not supported by the model `{ask.model}`, which reads text only.",
            param="input",
            code="invalid_content_type",
        )
    return ask


def _things(given: str | Sequence[str | TextPart | ImagePart]) -> tuple[tuple[Text | Image, ...], ...]:
    """Return what has a result of its own: the text, each of several texts, or all parts together."""
    if isinstance(given, str):
        return ((Text(given),),)
    parts: list[Text | Image] = []
    texts: list[str] = []
    for index, each in enumerate(given):
        path = f"input[{index}]"
        if isinstance(each, str) is not isinstance(given[0], str):
            noun = "a string" if isinstance(given[0], str) else "an object"
            raise wrong_type(path, noun, each if isinstance(each, str) else {})
        match each:
            case str():
                texts.append(each)
            case TextPart(text=text):
                parts.append(Text(text))
            case ImagePart(image_url=ImageUrl() as where):
                parts.append(image(where.url, where.detail, f"{path}.image_url.url"))
            case ImagePart(image_url=str() as url):
                parts.append(image(url, None, f"{path}.image_url"))
    return tuple((Text(text),) for text in texts) if texts else (tuple(parts),)


def write(ask: ModerationAsk, scores: Sequence[Mapping[str, float]], *, id: str) -> bytes:
    """Write the answer: the scores of each thing, in their order."""
    results = [_result(ask, thing, found) for thing, found in zip(ask.things, scores, strict=True)]
    return msgspec.json.encode({"id": id, "model": ask.model, "results": results})


def _result(ask: ModerationAsk, thing: Sequence[Text | Image], scores: Mapping[str, float]) -> dict[str, object]:
    older = ask.model.startswith("text-moderation")
    kinds = {"image" if isinstance(part, Image) else "text" for part in thing}
    applied = {
        name: [kind for kind in takes if kind in kinds]
        for name, takes in CATEGORIES.items()
        if not (older and name in NEWER)
    }
    # What no part of it can be judged by has the lowest score.
    found = {name: scores[name] if by else 0.0 for name, by in applied.items()}
    flags = {name: score >= FLAGGED for name, score in found.items()}
    result: dict[str, object] = {"flagged": any(flags.values()), "categories": flags, "category_scores": found}
    if not older:
        result["category_applied_input_types"] = applied
    return result
