"""oproxy: api.openai.com on your own machine."""

__version__ = "0.1.0"
