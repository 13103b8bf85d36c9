"""Text that a client carries for us and cannot read by chance: the `encrypted_content` of thoughts and compactions.

Not secret: whoever gets it was given the conversation anyway. It only has to come back whole, and to be told from what
another server wrote.
"""

from __future__ import annotations

import base64
import binascii
import zlib

__all__ = ["seal", "unseal"]

MARK = b"oproxy1:"
# What a sealed text may grow to; a few bytes could otherwise unpack to gigabytes.
LARGEST = 64 * 1024 * 1024


def seal(text: str) -> str:
    """Return `text` as ASCII that says nothing."""
    return base64.urlsafe_b64encode(zlib.compress(MARK + text.encode("utf-8", "surrogatepass"))).decode()


def unseal(sealed: str) -> str | None:
    """Return the text, or None if it is not ours."""
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(base64.urlsafe_b64decode(sealed.encode()), LARGEST)
        if not unpack.eof or not data.startswith(MARK):
            return None
        return data[len(MARK) :].decode("utf-8", "surrogatepass")
    except (ValueError, binascii.Error, zlib.error):
        return None
