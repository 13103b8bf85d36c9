"""How much a model thinks when it is asked by `reasoning_effort`. Pure.

Never invents a level: what a model cannot do is left out, and the caller is told.
"""

from __future__ import annotations

from ..model import ModelInfo, Reasoning

__all__ = ["settle_reasoning"]


def settle_reasoning(reasoning: Reasoning, info: ModelInfo) -> tuple[Reasoning, tuple[str, ...]]:
    """Return what to ask the model for, and which parameters have no effect.

    Ollama's own `think` is passed on as it is: whoever sends it wants the backend's own answer. An effort stays for
    models that think (the back writes it as a level or as on and off) and goes for those that do not.
    """
    if reasoning.think is not None or reasoning.effort is None or info.can("thinking"):
        return reasoning, ()
    ignored = () if reasoning.effort == "none" else ("reasoning_effort",)
    return Reasoning(summary=reasoning.summary), ignored
