"""Finding a field of a form while the form passes by: `FieldFinder` is fed its bytes and keeps none but the field's.

Only looks; a form that is none finds nothing. https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re

__all__ = ["FieldFinder", "boundary_of"]

# More of a field is not kept, and more headers are no part's (bytes).
LONGEST = 1024
HEADERS = 16 * 1024
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"(?im)^content-disposition:([^\r\n]*)")
# A quoted value may hold anything, another name's look too.
_PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a form by its Content-Type, None for anything but a form."""
    if not content_type.lower().lstrip().startswith("multipart/form-data"):
        return None
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]).encode("utf-8", "surrogateescape") if found else None


class FieldFinder:
    """Collects the values of the fields called `name`, in `found`, as soon as each is complete."""

    def __init__(self, boundary: bytes, name: str) -> None:
        self.found: list[str] = []
        self._name = name.encode()
        self._mark = b"\r\n--" + boundary
        # The first boundary has no line before it.
        self._buffer = b"\r\n"
        self._in_headers = False
        self._wanted = False
        self._value = b""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        self._buffer += data
        while self._headers() if self._in_headers else self._content():
            pass

    def _headers(self) -> bool:
        """Take a part's headers; return whether there is more to look at."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            if len(self._buffer) > HEADERS:
                self._in_headers, self._wanted = False, False
                return True
            return False
        self._wanted = name_in(head) == self._name
        self._value = b""
        self._in_headers, self._buffer = False, rest
        return True

    def _content(self) -> bool:
        """Take a part's content up to the next boundary; return whether there is more to look at."""
        place = self._buffer.find(self._mark)
        if place < 0:
            # The boundary may be torn.
            keep = len(self._mark) - 1
            self._take(self._buffer[:-keep])
            self._buffer = self._buffer[-keep:]
            return False
        self._take(self._buffer[:place])
        if self._wanted:
            self.found.append(self._value.decode("utf-8", "replace"))
        self._buffer = self._buffer[place + len(self._mark) :]
        self._in_headers, self._wanted = True, False
        return True

    def _take(self, data: bytes) -> None:
        if self._wanted and len(self._value) < LONGEST:
            self._value += data[: LONGEST - len(self._value)]


def name_in(head: bytes) -> bytes | None:
    """Return the name of the field whose headers these are."""
    if (found := _DISPOSITION.search(head)) is None:
        return None
    for key, quoted, bare in _PARAMETER.findall(found[1]):
        if key.lower() == b"name":
            name: bytes = quoted or bare
            return name
    return None
