"""Which Host, which Origin and which addresses are let through. Pure: never resolves a name.

A web page may make a browser talk to this machine under a name of its own choosing (DNS rebinding), and a client may
make us fetch a URL that only we can reach (SSRF). https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

__all__ = ["host_allowed", "is_loopback", "origin_allowed", "public_address"]

Address = IPv4Address | IPv6Address

NAT64 = IPv6Network("64:ff9b::/96")
# https://www.rfc-editor.org/rfc/rfc8215: NAT64 within one network, so the embedded address says nothing.
NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
# https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.1, long deprecated.
V4_COMPATIBLE = IPv6Network("::/96")


def host_allowed(host_header: str, *, own_names: Iterable[str], allowed_hosts: Iterable[str]) -> bool:
    """Return whether a Host header names this machine: a loopback address or name, one of its own names, or a host
    that the settings allow (`name`, `*.name` for all below it, `*` for all). A port is ignored."""
    host = _host(host_header)
    if host is None:
        return False
    if _loopback(host) or host == "localhost" or host.endswith(".localhost"):
        return True
    if any(host == _plain(name) for name in own_names):
        return True
    return any(_covers(pattern.strip(), host) for pattern in allowed_hosts)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address or a name that is listened on."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def origin_allowed(origin: str, cors_origins: Iterable[str]) -> bool:
    """Return whether a browser's Origin is among the allowed ones.

    These are origins as the browser writes them, `*` for all, or with a `*` for the port, for the whole host or for
    what stands before its first dot (`https://*.example.com`). The origin `null` must be named.
    """
    origin = origin.strip().lower().rstrip("/")
    for allowed in cors_origins:
        pattern = allowed.strip().lower().rstrip("/")
        if pattern in ("*", origin):
            return origin != "" and (pattern != "*" or origin != "null")
        if "*" in pattern and _origin_fits(pattern, origin):
            return True
    return False


def public_address(ip: str) -> bool:
    """Return whether an address is one of the public internet. False for what is no address at all."""
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    for _ in range(3):  # an embedded address may embed another
        if not isinstance(address, IPv6Address):
            break
        if address in NAT64_LOCAL or address.teredo is not None or address.is_site_local:
            return False
        inner = _embedded(address)
        if inner is None:
            break
        address = inner
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64 or address in V4_COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _host(header: str) -> str | None:
    """Return the host of a Host header in lower case, without port and brackets; None where it is malformed."""
    text = header.strip().lower()
    if text.startswith("["):
        inside, bracket, port = text[1:].partition("]")
        colon, port = port[:1], port[1:]
        if not bracket or colon not in ("", ":") or (colon and not port):
            return None
        host = inside
        try:
            IPv6Address(host)
        except ValueError:
            return None
    else:
        host, colon, port = text.partition(":")
        if ":" in port or (colon and not port):
            return None
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        return None
    host = _plain(host)
    if not host or any(sign.isspace() or sign in "/\\@,?#%" for sign in host):
        return None
    return host


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(".")


def _loopback(host: str) -> bool:
    try:
        address: Address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def _covers(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith(("*.", ".")):
        below = _plain(pattern.lstrip("*"))
        return host.endswith(below) and len(host) > len(below)
    return host == (_host(pattern) or _plain(pattern).strip("[]"))


def _origin_fits(pattern: str, origin: str) -> bool:
    scheme, sep, place = pattern.partition("://")
    got_scheme, got_sep, got_place = origin.partition("://")
    if not sep or not got_sep or scheme != got_scheme or not got_place:
        return False
    if place == "*":
        return True
    host, port = _split_port(place)
    got_host, got_port = _split_port(got_place)
    if port != "*" and port != got_port:
        return False
    if port == "*" and got_port and not got_port.isdigit():
        return False
    if host.startswith("*."):
        return got_host.endswith(host[1:]) and len(got_host) > len(host) - 1
    return host in ("*", got_host)


def _split_port(place: str) -> tuple[str, str]:
    """Split `host:port`; an address in brackets keeps its colons."""
    head, bracket, rest = place.rpartition("]")
    host, _, port = rest.partition(":")
    return head + bracket + host, port
