"""HTTPS of a running daemon: the pair it serves, taken anew when the files change, issued anew before it expires.

Each connection keeps the certificate it began with, so a change never cuts a stream; a pair that cannot be used is told
and not taken. Never listens (`run.py` does) and never asks anybody for rights: making mkcert's CA trusted is for
`oproxy cert install`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import certs
from ..certs import Cert, CertError, Pair
from ..policy.backoff import Backoff, Presence
from ..sections import Settings, Tls
from .run import Site

__all__ = ["Https", "keep_fresh", "open_https", "pair_of", "sites_of"]

log = logging.getLogger(__name__)

# The files are looked at so often (seconds). A change is taken when two looks see the same: certificate and key are
# written one after the other.
AGAIN = 1.0
# After a try to issue a certificate, whatever came of it, the next is not made earlier (seconds).
RETRY = 3600.0

# What tells one state of both files from another; None for a file that is not there.
Mark = tuple[tuple[str, int, int, int] | None, ...]


class Https:
    """The certificate in force. `context` is what the site listens with, from the first connection to the last.

    `mode` and `host` are those the daemon was started with; `tls` returns the settings of the moment. Raises CertError
    when there is no pair that can be used to begin with.
    """

    def __init__(
        self,
        mode: str,
        host: str,
        tls: Callable[[], Tls],
        *,
        say: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.mode, self._host, self._tls, self._say, self._now = mode, host, tls, say, now
        self.pair = pair_of(mode, tls())
        # What is read before the mark is looked at could be older than it.
        self._mark = self._moving = mark_of(self.pair)
        self.cert = certs.read(self.pair)
        self._live = certs.server_context(self.pair)
        self._retry = 0.0
        # Whether what lies in the files can be served, and whether mkcert can issue what is due.
        self.files, self.renewal = Presence(Backoff(AGAIN, AGAIN)), Presence(Backoff(RETRY, RETRY))
        self.context = certs.server_context(self.pair)
        # Called for every handshake, also of a client that names no host. A context of its own for each pair, because
        # one context keeps a certificate for each kind of key: an old RSA pair would live on beside a new ECDSA one.
        self.context.sni_callback = self._choose
        self._pin()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._live

    def _pin(self) -> None:
        try:
            certs.pin(self.pair)
        except (CertError, OSError) as exc:
            log.warning("oproxy's own commands may not reach HTTPS: %s", exc)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that mkcert's certificate shall be for."""
        return certs.names_for(self._tls().names, self._host)

    def look(self) -> bool:
        """Take the pair over if its files have changed and are still again; return whether it was. Says what came of
        it. Never raises."""
        try:
            pair = pair_of(self.mode, self._tls())
            mark = mark_of(pair)
        except (CertError, OSError) as exc:
            # Whatever the settings name next is read again.
            self._mark = self._moving = ()
            self._refuse(exc)
            return False
        before, self._moving = self._moving, mark
        if mark == self._mark or mark != before:
            return False
        self._mark = mark
        try:
            self._take(pair)
        except (CertError, OSError) as exc:
            self._refuse(exc)
            return False
        return True

    def _refuse(self, exc: CertError | OSError) -> None:
        self._complain(
            self.files, told(exc), f"The changed certificate is refused, the one in force stays: {told(exc)}"
        )

    def _complain(self, part: Presence, error: str, text: str) -> None:
        """Note why something is not as it should be, and say it if it is news."""
        news = part.error != error
        part.lost(error, self._now())
        if news:
            self._say(text)

    def state(self) -> dict[str, Any]:
        """Describe the certificate in force for /v1/health: until when it is good, and what is wrong, since when."""
        now = self._now()
        errors = [f"the changed certificate is refused: {self.files.error}"] if self.files.away else []
        errors += [f"a new certificate cannot be issued: {self.renewal.error}"] if self.renewal.away else []
        since = [part.since for part in (self.files, self.renewal) if part.since is not None]
        if self.expired:
            errors.insert(0, f"the certificate expired on {day(self.cert.end)}")
            since.append(min(self.cert.end, now))
        return {
            "ok": not errors,
            "expires": int(self.cert.end),
            "error": "; ".join(errors),
            "since": min(since, default=None),
        }

    @property
    def expired(self) -> bool:
        """Whether clients refuse the certificate in force."""
        return self.cert.end <= self._now()

    def _take(self, pair: Pair) -> None:
        cert = certs.read(pair)
        if cert.end <= self._now():
            raise CertError(f"{pair.cert} expired on {day(cert.end)}.")
        self._live, self.cert, self.pair = certs.server_context(pair), cert, pair
        self.files.back()
        self.renewal.back()
        self._pin()
        self._say(f"HTTPS has a new certificate, valid until {day(cert.end)}: {pair.cert}")

    def due(self) -> str:
        """Return why mkcert must issue a new certificate now; "" if it need not."""
        now = self._now()
        if self.mode != "mkcert" or now < self._retry:
            return ""
        why = why_renew(self.cert, self.names, now)
        if not why:
            # A name that could not be had is no longer asked for.
            self.renewal.back()
        return why

    async def renew(self, why: str) -> None:
        """Issue a certificate; `look` then takes it over. Says what hinders it, once."""
        self._retry = self._now() + RETRY
        try:
            await asyncio.to_thread(issue, self.names)
        except CertError as exc:
            text = f"The certificate of HTTPS {why}, and a new one cannot be issued: {exc.message}"
            self._complain(self.renewal, exc.message, text)


async def keep_fresh(https: Https, *, every: float = AGAIN) -> None:
    """Keep the certificate in force in step with its files, and from expiring, until cancelled."""
    while True:
        await asyncio.sleep(every)
        https.look()
        if why := https.due():
            await https.renew(why)


def open_https(
    settings: Settings,
    *,
    say: Callable[[str], None],
    tls: Callable[[], Tls] | None = None,
    now: Callable[[], float] = time.time,
) -> Https | None:
    """Return HTTPS as the settings want it, None where they want none; `tls` returns later settings (None: they never
    change). In mode mkcert a missing certificate is issued. Raises CertError when there is none to be had."""
    mode = settings.tls.mode
    if mode == "off":
        return None
    if mode == "mkcert":
        provide(certs.names_for(settings.tls.names, settings.server.host), say, now())
    https = Https(mode, settings.server.host, tls or (lambda: settings.tls), say=say, now=now)
    if https.cert.end <= now():
        say(f"The certificate of HTTPS expired on {day(https.cert.end)}; clients will refuse it: {https.pair.cert}")
    return https


def provide(names: Sequence[str], say: Callable[[str], None], now: float) -> None:
    """See to it that there is a certificate of mkcert's. One that is about to expire is better than none."""
    cert: Cert | None = None
    try:
        cert = certs.read(certs.own_pair())
        why = why_renew(cert, names, now)
    except CertError as exc:
        why = exc.message
    if not why:
        return
    try:
        issue(names)
    except CertError as exc:
        if cert is None:
            raise CertError(f"HTTPS has no certificate yet. {exc.message}") from exc
        say(f"The certificate of HTTPS {why}, and a new one cannot be issued: {exc.message}")


def issue(names: Sequence[str]) -> None:
    program = certs.find_mkcert()
    if not certs.has_ca(program):
        raise CertError(f"mkcert has no CA in {certs.ca_folder(program)}. Set it up once: `oproxy cert install`.")
    certs.issue(program, names)


def why_renew(cert: Cert, names: Sequence[str], now: float) -> str:
    """Return why a certificate of mkcert's is to be issued anew, as the end of a sentence; "" if it is good."""
    if cert.end <= now:
        return f"expired on {day(cert.end)}"
    if cert.days_left(now) < certs.RENEW_DAYS:
        return f"expires on {day(cert.end)}"
    if missing := certs.missing_names(cert, names):
        return f"is not for {', '.join(missing)}"
    return ""


def pair_of(mode: str, tls: Tls) -> Pair:
    """Return where the pair lies that is to be served."""
    if mode != "files":
        return certs.own_pair()
    for name, value in (("cert", tls.cert), ("key", tls.key)):
        if not value:
            raise CertError(f'`{name}` under [tls] is not set; mode = "files" needs cert and key.')
    return Pair(Path(tls.cert).expanduser(), Path(tls.key).expanduser())


def mark_of(pair: Pair) -> Mark:
    marks: list[tuple[str, int, int, int] | None] = []
    for path in pair:
        try:
            stat = path.stat()
            marks.append((str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)


def told(exc: CertError | OSError) -> str:
    return exc.message if isinstance(exc, CertError) else str(exc)


def day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def sites_of(settings: Settings, https: Https | None) -> list[Site]:
    """Return where to listen: HTTP, HTTPS or both, in the order in which clients are told of them."""
    server, tls = settings.server, settings.tls
    plain = [Site(server.host, server.port)] if https is None or not tls.only else []
    return plain + ([Site(server.host, tls.port, https.context)] if https is not None else [])
