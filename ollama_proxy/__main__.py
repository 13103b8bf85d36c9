"""`python -m ollama_proxy`: the same as the `oproxy` command."""

from __future__ import annotations

from .cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
