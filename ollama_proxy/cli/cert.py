"""`oproxy cert`: a certificate for HTTPS on this machine, made by mkcert.

mkcert's own words and questions (it may ask for the password) go to the terminal as they are. A running daemon takes a
new certificate over by itself. Never serves, never asks the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import certs
from ..certs import CertError, Pair
from ..settings import Settings, load
from .failure import Failure
from .plain import confirm, echo, print_json, print_pairs, tell

__all__ = ["app"]

HELP = """HTTPS: issue, show, renew and remove this machine's certificate.

mkcert makes it, and a CA that this machine's programs trust. Once `oproxy cert install` has run, `oproxy serve
--https` or `mode = "mkcert"` under `[tls]` serves HTTPS on port 11436 beside HTTP, or alone with `only = true`. The
daemon issues a new certificate by itself when fewer than 30 days are left, or when a name is added to `names` under
`[tls]`.

A certificate from elsewhere is set by `mode = "files"`, `cert` and `key` under `[tls]`. When the files change they
are taken over within seconds, and no running answer is cut. A pair that cannot be used is refused and the old one
stays; the log, `oproxy status` and `oproxy doctor` say so until it is mended. A name of one's own also goes into
`allowed_hosts` under `[server]`.

A daemon that finds no certificate it can use when it starts says why and does not serve: whoever starts it is there to
mend it, and nothing that was meant for HTTPS is served in the clear.

Let's Encrypt by certbot, whose files only root can read, so that a hook copies them for USER: `certbot certonly
--standalone -d ai.example.com --deploy-hook 'install -o USER -m 600 "$RENEWED_LINEAGE/fullchain.pem"
"$RENEWED_LINEAGE/privkey.pem" /home/USER/tls/'`; then `cert` is /home/USER/tls/fullchain.pem and `key`
/home/USER/tls/privkey.pem.

Let's Encrypt by lego, also for a machine that cannot be reached from outside (here with a name at Cloudflare): `lego
--email you@example.com --dns cloudflare --domains ai.example.com run`, and `renew` in its place once a day; then
`cert` is .lego/certificates/ai.example.com.crt and `key` .lego/certificates/ai.example.com.key, below the folder it
ran in."""

app = typer.Typer(no_args_is_help=True, help=HELP)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="OPROXY_CONFIG", help="The config file to use.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def install(
    trust: Annotated[
        bool, typer.Option(help="Whether this machine shall trust mkcert's CA (may ask for your password).")
    ] = True,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Make mkcert's CA trusted on this machine and let it issue a certificate.

    It is for localhost, 127.0.0.1, ::1, the machine's name, the address listened on, and the names under `[tls]`.
    Then `oproxy serve --https`, or `mode = "mkcert"` under `[tls]`, serves HTTPS.
    """
    program = certs.find_mkcert()
    if trust:
        asked(
            "mkcert puts a CA of this machine's own into the trust stores of the system and of the browsers. "
            "It may ask for your password. Go on?",
            yes,
        )
        if talk(program, "-install") != 0:
            raise Failure(
                "mkcert could not make its CA trusted (see above). `oproxy cert install --no-trust` issues a "
                "certificate all the same; clients must then be given the CA."
            )
    issued(program, config)
    if trust and not certs.trusted(certs.own_pair()):
        tell("mkcert is done, but the system's own store does not list its CA: clients must be given the CA.")
    tell("Serve it with `oproxy serve --https`; a running daemon that serves HTTPS takes it over by itself.")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    config: Config = None,
) -> None:
    """Tell where the certificate is, what it is for, how long it is good, and whether this machine trusts it.

    The exit status is 1 when there is none that can be used.
    """
    found = state(settings(config))
    if as_json:
        print_json(found)
    else:
        show(found)
    if found["problem"]:
        raise typer.Exit(1)


def state(wanted: Settings) -> dict[str, Any]:
    """Return all that is known of the certificate that the settings name. `problem` is "" for one that can be used."""
    files = wanted.tls.mode == "files"
    pair = Pair(Path(wanted.tls.cert).expanduser(), Path(wanted.tls.key).expanduser()) if files else certs.own_pair()
    ca = None if files else certs.ca_file()
    found: dict[str, Any] = {"mode": wanted.tls.mode, "cert": str(pair.cert), "key": str(pair.key)}
    found |= {"ca": str(ca) if ca else None, "names": [], "missing": [], "issuer": None, "expires": None}
    found |= {"days_left": None, "trusted": False, "problem": ""}
    if not files and not pair.cert.exists():
        return found | {"problem": "There is no certificate yet. Make one with `oproxy cert install`."}
    try:
        cert = certs.read(pair)
    except CertError as exc:
        return found | {"problem": exc.message}
    days = cert.days_left(time.time())
    names = () if files else certs.names_for(wanted.tls.names, wanted.server.host)
    found |= {"names": list(cert.names), "missing": list(certs.missing_names(cert, names)), "issuer": cert.issuer}
    found |= {"expires": int(cert.end), "days_left": int(days // 1), "trusted": certs.trusted(pair)}
    if days <= 0:
        found["problem"] = "It has expired. " + ("Get a new one." if files else "`oproxy cert renew` issues a new one.")
    return found


def show(found: dict[str, Any]) -> None:
    if found["expires"] is not None:
        until = datetime.fromtimestamp(found["expires"], UTC).strftime("%Y-%m-%d")
        trust = "yes" if found["trusted"] else "no"
        if not found["trusted"] and found["mode"] != "files":
            trust += " (`oproxy cert install` makes mkcert's CA trusted)"
        pairs = [
            ("serves", "nothing yet (`oproxy serve --https`)" if found["mode"] == "off" else f"mode {found['mode']}"),
            ("cert", found["cert"]),
            ("key", found["key"]),
            ("ca", found["ca"] or ""),
            ("names", ", ".join(found["names"])),
            ("issuer", found["issuer"]),
            ("expires", f"{until}, {found['days_left']} days left"),
            ("trusted", trust),
        ]
        print_pairs(pairs, column=9)
    if found["missing"]:
        tell(f"It is not for {', '.join(found['missing'])}. `oproxy cert renew` issues one that is.")
    if found["problem"]:
        tell(found["problem"])


@app.command()
def renew(config: Config = None) -> None:
    """Issue the certificate anew, with the names of today. The daemon does so by itself before it expires."""
    program = certs.find_mkcert()
    if not certs.has_ca(program):
        raise Failure("mkcert has no CA yet. Set it up once: `oproxy cert install`.")
    issued(program, config)


@app.command()
def uninstall(
    ca: Annotated[
        bool | None,
        typer.Option(
            "--ca/--keep-ca", help="Whether mkcert's CA is taken out of the trust stores, too. Asked if not given."
        ),
    ] = None,
) -> None:
    """Remove the certificate; if wanted, this machine stops trusting mkcert's CA, too."""
    removed = certs.remove()
    tell(f"The certificate in {certs.folder()} is removed." if removed else "There was no certificate.")
    if ca is None:
        ca = sys.stdin.isatty() and confirm(
            "Take mkcert's CA out of this machine's trust stores, too? Other programs' certificates may need it."
        )
    if not ca:
        return
    if talk(certs.find_mkcert(), "-uninstall") != 0:
        raise Failure("mkcert could not take its CA out of all trust stores (see above).")


def settings(config: Path | None) -> Settings:
    return load(path=config, env=os.environ, flags={}).settings


def issued(program: str, config: Path | None) -> None:
    """Issue a certificate for the names of the settings and tell of it."""
    wanted = settings(config)
    cert = certs.issue(program, certs.names_for(wanted.tls.names, wanted.server.host))
    until = datetime.fromtimestamp(cert.end, UTC).strftime("%Y-%m-%d")
    tell(f"The certificate is good until {until}, for {', '.join(cert.names)}.")
    echo(str(certs.own_pair().cert))


def asked(question: str, yes: bool) -> None:
    """Ask a person; who runs us without a terminal has said by the command what is wanted."""
    if not yes and sys.stdin.isatty() and not confirm(question, default=True):
        raise Failure("Nothing was done.")


def talk(program: str, *args: str) -> int:
    """Run mkcert with the person's own terminal; what it says goes to stderr. Return its exit status."""
    try:
        return subprocess.run([program, *args], stdout=sys.stderr, check=False).returncode
    except OSError as exc:
        raise Failure(f"{program} could not be run: {exc.strerror or exc}.") from exc
