"""Images, sound and files in bodies, kept as what they were: type, size and hash.

They are found and replaced in the bytes of the JSON, without decoding it: a body of 20 MB would otherwise stop the
daemon for as long as it takes, since only one thread of a process decodes at a time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

import msgspec

__all__ = ["without_media"]

# Fields whose text is base64 when it is long: OpenAI's input_audio and audio, images, files, embeddings.
FIELDS = re.compile(rb'"(data|b64_json|file_data|embedding|image|partial_image_b64)"\s*:\s*"(?!data:)')
# The head of a data: URI; the media type as RFC 2397 has it.
HEAD = re.compile(rb"data:([a-zA-Z0-9.+/-]{0,100})(?:;[a-zA-Z0-9_.=-]{1,60}){0,4};base64,")
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
PAYLOAD = re.compile(rb"[A-Za-z0-9+/=_-]*")
# Shorter texts are no files, and some word that looks like base64 should stay readable (bytes).
LEAST = 200
# What any of the fields must hold to be replaced; quicker to look for than their names.
LONG = re.compile(rb':\s*"[A-Za-z0-9+/=_-]{%d}' % LEAST)
# Ollama's pictures: a list of base64.
LISTS = re.compile(rb'"images"\s*:\s*\[\s*')
ITEM = re.compile(rb'"([A-Za-z0-9+/=_-]*)"\s*,?\s*')
# Decoded and hashed in pieces (bytes of base64, a multiple of 4), so that others may run between them.
PIECE = 256 * 1024


def without_media(data: bytes) -> bytes:
    """Return JSON with `{"sha256": …, "bytes": …, "type": …}` in place of media; the same object if there are none.

    A data: URI inside a longer text becomes `[image/png, 1234 bytes, sha256 …]` there.
    """
    if data.find(b";base64,") >= 0:
        data = without_uris(data)
    if LONG.search(data):
        data = without_fields(data)
    if data.find(b'"images"') >= 0:
        data = without_lists(data)
    return data


def without_uris(data: bytes) -> bytes:
    out, done = [], 0
    for found in HEAD.finditer(data):
        begin, start = found.span()
        if begin < done:
            continue
        whole = data[begin - 1 : begin] == b'"'
        end = data.find(b'"', start) if whole else -1
        payload = data[start:end] if end >= 0 else b""
        if not payload or payload.translate(None, ALPHABET):
            payload = (PAYLOAD.match(data, start) or found)[0]
            end = start + len(payload)
            whole = whole and data[end : end + 1] == b'"'
        if len(payload) < LEAST:
            continue
        digest, size = hashed(payload)
        kind = found[1].decode() or "text/plain"
        if whole:
            out += [data[done : begin - 1], described(digest, size, kind)]
            done = end + 1
        else:
            out += [data[done:begin], f"[{kind}, {size} bytes, sha256 {digest}]".encode()]
            done = end
    return b"".join([*out, data[done:]]) if out else data


def without_fields(data: bytes) -> bytes:
    out, done = [], 0
    for found in FIELDS.finditer(data):
        start = found.end()
        end = data.find(b'"', start)
        if start < done or end - start < LEAST:
            continue
        payload = data[start:end]
        if payload.translate(None, ALPHABET):
            continue
        digest, size = hashed(payload)
        out += [data[done : start - 1], described(digest, size, found[1].decode())]
        done = end + 1
    return b"".join([*out, data[done:]]) if out else data


def without_lists(data: bytes) -> bytes:
    out, done = [], 0
    for found in LISTS.finditer(data):
        start = found.end()
        while (item := ITEM.match(data, start)) is not None:
            start = item.end()
            if len(item[1]) >= LEAST:
                digest, size = hashed(item[1])
                out += [data[done : item.start()], described(digest, size, "image")]
                done = item.end(1) + 1
    return b"".join([*out, data[done:]]) if out else data


def described(digest: str, size: int, kind: str) -> bytes:
    return msgspec.json.encode({"sha256": digest, "bytes": size, "type": kind})


def hashed(payload: bytes) -> tuple[str, int]:
    """Return SHA-256 and size of what the base64 stands for; of the text itself if it stands for nothing."""
    digest, size = hashlib.sha256(), 0
    try:
        for start in range(0, len(payload), PIECE):
            piece = payload[start : start + PIECE]
            raw = base64.urlsafe_b64decode(piece + b"=" * (-len(piece) % 4))
            digest.update(raw)
            size += len(raw)
    except (binascii.Error, ValueError):
        return hashlib.sha256(payload).hexdigest(), len(payload)
    return digest.hexdigest(), size
