"""Finding a field of a form while the form passes by: `FieldFinder` is fed its bytes and keeps none but the field's.

Only looks; a form that is none finds nothing. https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re

from ..errors import Invalid

__all__ = ["FieldFinder", "boundary_of"]

# More of a field is not kept, and more headers are no part's (bytes).
LONGEST = 1024
HEADERS = 16 * 1024
_FOLDED = re.compile(rb"\n[ \t]")
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"(?im)^content-disposition:([^\r\n]*)")
# A quoted value may hold anything, another name's look too.
_PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a form by its Content-Type, None for anything but a form. Raises Invalid for a form whose
    boundary cannot be told: another reader might take another one."""
    if not content_type.lower().lstrip().startswith("multipart/form-data"):
        return None
    found = _BOUNDARY.findall(content_type)
    if len(found) != 1:
        raise Invalid("A form needs exactly one boundary in its Content-Type.")
    boundary: str = found[0][0] or found[0][1]
    return boundary.encode("utf-8", "surrogateescape")


class FieldFinder:
    """Collects the values of the fields called `name`, in `found`, as soon as each is complete.

    `sound`: so far there is nothing that another reader might take for something else. `ended`: so has the form.
    """

    def __init__(self, boundary: bytes, name: str) -> None:
        self.found: list[str] = []
        self.sound = True
        self.ended = False
        self._name = name.encode()
        self._mark = b"\r\n--" + boundary
        # The first boundary has no line before it.
        self._buffer = b"\r\n"
        # How far it has been looked at: cut off part by part, a form of many parts would take quadratic time.
        self._place = 0
        self._in_headers = False
        self._wanted = False
        self._value = b""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        if self.ended:
            return
        self._buffer = self._buffer[self._place :] + data
        self._place = 0
        while self._headers() if self._in_headers else self._content():
            pass
        self._buffer, self._place = self._buffer[self._place :], 0

    def _headers(self) -> bool:
        """Take a part's headers; return whether there is more to look at."""
        buffer, place = self._buffer, self._place
        if len(buffer) - place < 2 or self.ended:
            return False
        if buffer.startswith(b"--", place):
            self.ended, self._buffer, self._place = True, b"", 0
            return False
        self.sound = self.sound and buffer.startswith(b"\r\n", place)
        end = buffer.find(b"\r\n\r\n", place)
        if end < 0:
            if len(buffer) - place > HEADERS:
                self._in_headers, self._wanted, self.sound = False, False, False
                return True
            return False
        head = buffer[place:end]
        self.sound = self.sound and not _FOLDED.search(head)
        self._wanted = self._name in names_in(head)
        self._value = b""
        self._in_headers, self._place = False, end + 4
        return True

    def _content(self) -> bool:
        """Take a part's content up to the next boundary; return whether there is more to look at."""
        found = self._buffer.find(self._mark, self._place)
        if found < 0:
            # The boundary may be torn.
            keep = max(self._place, len(self._buffer) - len(self._mark) + 1)
            self._take(self._place, keep)
            self._place = keep
            return False
        self._take(self._place, found)
        if self._wanted:
            self.found.append(self._value.decode("utf-8", "replace"))
        self._place = found + len(self._mark)
        self._in_headers, self._wanted = True, False
        return True

    def _take(self, start: int, end: int) -> None:
        if self._wanted and len(self._value) < LONGEST:
            self._value += self._buffer[start : min(end, start + LONGEST - len(self._value))]


def names_in(head: bytes) -> set[bytes]:
    """Return the name of the field whose headers these are, in every form that it is written in."""
    found = set()
    for disposition in _DISPOSITION.findall(head):
        for key, quoted, bare in _PARAMETER.findall(disposition):
            if key.lower() in (b"name", b"name*"):
                # The second is written utf-8''model. https://www.rfc-editor.org/rfc/rfc5987
                found.add((quoted or bare).rpartition(b"''")[2])
    return found
