"""Which backend options and sampling defaults the config gives a model. Pure.

Keys of [models.options] are names or globs. They may name the served model (`smollm2`, `smollm2:latest`,
`ollama/smollm2`) or the name the client asked for. Globs are applied first, exact names last; so the nearest wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from ..model import ModelInfo

__all__ = ["SAMPLING", "options_for"]

# Option names that are the hub's own sampling knobs, and what the hub calls them.
SAMPLING: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "num_predict": "max_tokens",
}


def options_for(
    table: Mapping[str, Mapping[str, Any]], *, asked: str, info: ModelInfo, num_ctx: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (backend options, sampling defaults by the hub's names).

    `num_ctx` (tokens, 0: leave it to the backend) holds for all models and is capped to what the model was trained
    for. It is read from keys that name the served model only: two windows for one model, by whatever alias, would
    make the backend load it anew at each change.
    """
    served = {info.id, f"{info.backend}/{info.id}", info.id.removesuffix(":latest")}
    merged: dict[str, Any] = {"num_ctx": num_ctx} if num_ctx else {}
    for exact in (False, True):
        for key, values in table.items():
            if is_glob(key) is exact:
                continue
            hits_served = any(fnmatchcase(name, key) for name in served)
            if not hits_served and not fnmatchcase(asked, key):
                continue
            merged.update({k: v for k, v in values.items() if k != "num_ctx" or hits_served})
    if merged.get("num_ctx") and info.context:
        merged["num_ctx"] = min(merged["num_ctx"], info.context)
    sampling = {SAMPLING[k]: v for k, v in merged.items() if k in SAMPLING and v is not None}
    if isinstance(stop := sampling.get("stop"), list):
        sampling["stop"] = tuple(stop)
    return {k: v for k, v in merged.items() if k not in SAMPLING and v is not None}, sampling


def is_glob(name: str) -> bool:
    return any(sign in name for sign in "*?[")
