"""Hosts, origins and addresses."""

from __future__ import annotations

import pytest

from ollama_proxy.policy.address import host_allowed, origin_allowed, public_address


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:11435", "localhost.", "app.localhost:80", "127.0.0.1", "127.8.9.1:1", "[::1]",
        "[::1]:11435", "[::ffff:127.0.0.1]", "mybox", "MyBox:11435", "mybox.local", "llm.example.com", "x.lan",
        "a.b.lan:9",
    ],
)  # fmt: skip
def test_hosts_of_this_machine_are_allowed(host: str) -> None:
    assert host_allowed(host, own_names=("mybox", "mybox.local."), allowed_hosts=("LLM.example.com", "*.lan"))


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "notlocalhost", "lan", "1.2.3.4", "0.0.0.0",
        "localhost:", "localhost:x", "localhost:99999", "::1", "[::1", "[::1]x", "[::1]:", "[evil]", "a@localhost",
        "localhost/x", "local host", "2130706433", "localhost:80:80", "evillan", "[fe80::1]", "localhost:¹",
    ],
)  # fmt: skip
def test_other_and_malformed_hosts_are_not(host: str) -> None:
    assert not host_allowed(host, own_names=("mybox",), allowed_hosts=("*.lan",))


def test_a_star_allows_every_host_that_is_one() -> None:
    assert host_allowed("evil.com", own_names=(), allowed_hosts=["*"])
    assert not host_allowed("evil.com:x", own_names=(), allowed_hosts=["*"])
    assert host_allowed("[2001:db8::1]:1", own_names=(), allowed_hosts=["[2001:db8::1]"])


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", ["http://localhost:3000/"]),
        ("http://localhost:3000", ["http://localhost:*"]),
        ("http://localhost", ["http://localhost:*"]),
        ("https://App.example.com", ["https://*.example.com"]),
        ("chrome-extension://abc", ["chrome-extension://*"]),
        ("http://x", ["*"]),
        ("null", ["null"]),
        ("http://[::1]:5", ["http://[::1]:*"]),
    ],
)
def test_listed_origins_are_allowed(origin: str, allowed: list[str]) -> None:
    assert origin_allowed(origin, allowed)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://evil.com", []),
        ("http://localhost:3001", ["http://localhost:3000"]),
        ("https://localhost:3000", ["http://localhost:3000"]),
        ("http://localhost:1.evil.com", ["http://localhost:*"]),
        ("http://localhost.evil.com", ["http://localhost:*"]),
        ("https://example.com", ["https://*.example.com"]),
        ("https://evilexample.com", ["https://*.example.com"]),
        ("https://a.example.com:8443", ["https://*.example.com"]),
        ("null", ["*"]),
        ("", ["*"]),
        ("", [""]),
    ],
)
def test_other_origins_are_not(origin: str, allowed: list[str]) -> None:
    assert not origin_allowed(origin, allowed)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "2002:7f00:1::",
        "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::127.0.0.1",
        "2001:db8::1", "localhost", "127.1", "",
    ],
)  # fmt: skip
def test_addresses_that_only_we_can_reach_are_not_public(ip: str) -> None:
    assert not public_address(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_addresses_of_the_internet_are_public(ip: str) -> None:
    assert public_address(ip)
