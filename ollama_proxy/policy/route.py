"""Which model of which backend answers a name. Pure; never asks a backend.

A name is looked up in this order: the user's exact aliases; the models as the backends list them (`:latest` may be
left out, `backend/model` chooses a backend, and a name that fits nowhere is tried again without regard to case); the
exact aliases again, with `:latest` behind them as Ollama lists them; the user's globs, in the order of the file; and
last OpenAI's usual names, so that a tool with a hard-coded model works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from ..errors import ModelNotFound
from ..model import ModelInfo
from .options import is_glob
from .printable import shell_word

__all__ = ["Kind", "Names", "Target", "Via"]

Kind = Literal["chat", "completion", "embedding"]
Via = Literal["alias", "listed", "glob", "openai"]

# And Anthropic's, whose clients come by /v1/messages.
OPENAI_CHAT = ("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "claude-*")
OPENAI_EMBEDDING = ("text-embedding-*",)
# OpenAI's open models run here under their own name: another model must not pose as them.
OWN_NAMES = ("gpt-oss*",)
# Where a backend does not tell what its models can do, these words in a name say that it does not chat.
NO_CHAT = ("embed", "minilm", "bge-", "rerank", "whisper", "tts", "dall-e", "moderation")
EMBEDS = ("embed", "minilm", "bge-")


class Target(Struct, frozen=True):
    """What a name leads to. `asked` is the name as the client wrote it, `via` the rule that found the model."""

    info: ModelInfo
    asked: str
    via: Via


class Names:
    """The user's names for models. `default` stands in for OpenAI's names if `openai_names`; `backends` are the names
    of the backends in the order of the config, which decides where two have the same model."""

    def __init__(
        self, *, aliases: Mapping[str, str], default: str | None, openai_names: bool, backends: Sequence[str]
    ) -> None:
        self._exact = {name: target for name, target in aliases.items() if not is_glob(name)}
        self._globs = [(name, target) for name, target in aliases.items() if is_glob(name)]
        self._default = default or None
        self._openai_names = openai_names
        self._place = {name: place for place, name in enumerate(backends)}

    def resolve(self, asked: str, listed: Sequence[ModelInfo], *, kind: str | None = None) -> Target | None:
        """Return the model for `asked`, None where there is none. Raises ModelNotFound for a circle of aliases."""
        models = sorted(listed, key=self._order)
        if asked in self._exact:
            return _target(self._follow(asked, models, kind), asked, "alias")
        if found := _find(asked, models, self._place, kind):
            return Target(found, asked, "listed")
        if (bare := asked.removesuffix(":latest")) in self._exact:
            return _target(self._follow(bare, models, kind), asked, "alias")
        for pattern, name in self._globs:
            if fnmatchcase(asked, pattern):
                return _target(self._follow(name, models, kind, came=asked), asked, "glob")
        if self._openai_names and (embeds := _openai(asked)) is not None:
            return _target(self._stand_in(embeds, models), asked, "openai")
        return None

    def usual(self, listed: Sequence[ModelInfo]) -> ModelInfo | None:
        """Return the model that chats where nobody names one: the default, else a fitting one."""
        return self._stand_in(False, sorted(listed, key=self._order))

    def aliases(self, listed: Sequence[ModelInfo]) -> dict[str, Target]:
        """Return the exact aliases that lead to a model, with it."""
        found = {}
        for name in self._exact:
            try:
                target = self.resolve(name, listed)
            except ModelNotFound:
                continue
            if target is not None:
                found[name] = target
        return found

    def near(self, asked: str, listed: Sequence[ModelInfo], *, fetch: bool = True) -> str:
        """Return a hint for a name that was not found: what is near it, and how to fetch it. `fetch` is False where
        that would not help: a model that is to be deleted."""
        if asked in self._exact:
            return f"It is an alias of `{self._exact[asked]}`, which no backend has."
        if self._openai_names and (embeds := _openai(asked)) is not None:
            if self._default and not embeds:
                return f"It stands for `{self._default}` (default under [models]), which no backend has."
            what = "embedding" if embeds else "chat"
            return f"No installed {what} model can stand in for it: see `oproxy models list`, `oproxy models pull`."
        known = {info.id.removesuffix(":latest"): None for info in listed} | dict.fromkeys(self._exact)
        near = get_close_matches(asked.removesuffix(":latest")[:200], known, n=3, cutoff=0.6)
        hints = []
        if near:
            hints.append(f"Did you mean {' or '.join(f'`{name}`' for name in near)}?")
        if fetch and _pullable(asked):
            hints.append(f"To fetch it: `oproxy models pull {shell_word(asked)}`.")
        return " ".join(hints)

    def _order(self, info: ModelInfo) -> int:
        return self._place.get(info.backend, len(self._place))

    def _follow(
        self, name: str, models: Sequence[ModelInfo], kind: str | None, *, came: str | None = None
    ) -> ModelInfo | None:
        """Return the model that an alias, perhaps of an alias, leads to."""
        way = [came] if came is not None else []
        while name in self._exact:
            if name in way:
                if way[-1] == name:
                    break  # an alias of itself means the model of that name
                raise ModelNotFound(way[0], hint=f"Its aliases go in a circle: {' → '.join([*way, name])}.")
            way.append(name)
            name = self._exact[name]
        return _find(name, models, self._place, kind)

    def _stand_in(self, embeds: bool, models: Sequence[ModelInfo]) -> ModelInfo | None:
        """Return the model for one of OpenAI's names: the default, or where none is set a fitting one.

        Fitting for chat is a model that chats; those with tools come first, then the order of the backends, then the
        larger file, then the name. For embeddings the order of the backends, then the name, counts.
        """
        default = self._follow(self._default, models, None) if self._default else None
        if embeds:
            fitting = [info for info in models if _embeds(info)]
            if default is not None and default in fitting:
                return default
            return min(fitting, key=lambda info: (self._order(info), info.id), default=None)
        if self._default:
            return default
        return min(
            (info for info in models if _chats(info)),
            key=lambda info: (not info.can("tools"), self._order(info), -(info.size or 0), info.id),
            default=None,
        )


def _target(info: ModelInfo | None, asked: str, via: Via) -> Target | None:
    return Target(info, asked, via) if info is not None else None


def _find(name: str, models: Sequence[ModelInfo], backends: Mapping[str, int], kind: str | None) -> ModelInfo | None:
    """Look a name up among the listed models, which come in the order of their backends."""
    backend, slash, rest = name.partition("/")
    inside = [info for info in models if info.backend == backend] if slash and backend in backends else []
    for fold in (False, True):
        # An id that has a slash of its own is looked for before the slash is taken for a backend's.
        if found := _match(name, models, kind, fold=fold) or (inside and _match(rest, inside, kind, fold=fold)):
            return found
    return None


def _match(name: str, models: Sequence[ModelInfo], kind: str | None, *, fold: bool) -> ModelInfo | None:
    def plain(text: str) -> str:
        return (text.casefold() if fold else text).removesuffix(":latest")

    hits = [info for info in models if plain(info.id) == plain(name)]
    # Of two backends with the same model, one that cannot do what is asked comes last; of two models of one backend
    # that differ in a tag only, the one that was named comes first.
    able = "embedding" if kind == "embedding" else "completion"
    first = next((info for info in hits if kind is None or info.can(able)), hits[0] if hits else None)
    if first is None:
        return None
    return next((info for info in hits if info.backend == first.backend and info.id == name), first)


def _openai(name: str) -> bool | None:
    """Return whether `name` is one of OpenAI's embedding models, None where it is no usual name of theirs."""
    if any(fnmatchcase(name, pattern) for pattern in OWN_NAMES):
        return None
    if any(fnmatchcase(name, pattern) for pattern in OPENAI_EMBEDDING):
        return True
    return False if any(fnmatchcase(name, pattern) for pattern in OPENAI_CHAT) else None


def _chats(info: ModelInfo) -> bool:
    if info.capabilities is not None:
        return "completion" in info.capabilities
    return not any(word in info.id.casefold() for word in NO_CHAT)


def _embeds(info: ModelInfo) -> bool:
    if info.capabilities is not None:
        return "embedding" in info.capabilities
    return any(word in info.id.casefold() for word in EMBEDS)


def _pullable(name: str) -> bool:
    """Return whether a name may be shown in a command line as it is."""
    return 0 < len(name) <= 200 and all(sign.isalnum() or sign in "._:/-" for sign in name) and name[0] != "-"
