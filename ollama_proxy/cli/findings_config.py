"""What is wrong with what we and our clients were told: the config, and the environment of this shell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ..policy.redact import redact_url
from ..pricing import costs_money
from ..settings import Settings
from .env import address
from .findings import Finding, Scene

__all__ = ["check_config", "check_environment"]

# OpenAI's own keys: of a project, a service account, an administrator, or of old: sk- and letters without end.
REAL_KEY = re.compile(r"sk-(proj|svcacct|admin|None)-\S{20,}|sk-[A-Za-z0-9]{40,}")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")
# Variables with a file of authorities; where the file is missing, every HTTPS request of the program fails.
CA_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
ORGANIZATION = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT", "OPENAI_PROJECT_ID")


async def check_config(scene: Scene) -> list[Finding]:
    """Tell every mistake in the config, and what of it cannot work."""
    if scene.problems:
        return [config_problem(scene, problem.where, str(problem)) for problem in scene.problems]
    loaded = scene.loaded
    assert loaded is not None
    path = str(loaded.path)
    if loaded.path.exists():
        count = sum(1 for origin in loaded.origin.values() if origin.startswith("file "))
        found = [Finding("config", "ok", f"it is right and sets {count} {'value' if count == 1 else 'values'}", path)]
    else:
        found = [Finding("config", "ok", "there is no file; the defaults are in force", path)]
    used = scene.running.config if scene.running is not None else None
    if scene.running is not None and used != (path if loaded.path.exists() else None):
        what = f"the daemon was started with {used or 'no config file'}; what follows is said of this one"
        found.append(Finding("config", "note", what, path, "oproxy --config FILE doctor"))
    return [*found, *unworkable(scene.settings, scene.env)]


def config_problem(scene: Scene, where: str, text: str) -> Finding:
    what = text.removeprefix(f"{where}: ")
    remedy = "oproxy config edit" if ":" in where else ""
    if scene.running is not None:
        what += "; the daemon goes on with what it had"
    return Finding("config", "broken", what, where, remedy)


def unworkable(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what reads well and cannot work."""
    server, auth = settings.server, settings.auth
    if server.host not in LOOPBACK[:3] and not server.host.startswith("127."):
        if auth.mode == "off" and not auth.allow_anonymous:
            what = f"the daemon will not start: it would let everybody in who reaches {server.host}"
            yield Finding("config", "broken", what, "auth.mode", "oproxy config set auth.mode on")
        elif auth.mode == "off":
            what = f"anybody who reaches {server.host} is let in without a key"
            yield Finding("config", "warning", what, "auth.allow_anonymous", "oproxy config set auth.mode on")
    if auth.env_file and not Path(auth.env_file).expanduser().is_file():
        yield Finding(
            "config", "warning", f"there is no {auth.env_file}", "auth.env_file", "make it, or empty the setting"
        )
    budget = settings.budget
    in_dollars = budget.money_per_day is not None or budget.money_per_month is not None
    if in_dollars and budget.count == "cost" and not costs_money(settings.prices, settings.backends):
        what = "no model here costs money, so the budget in dollars never fills"
        yield Finding("config", "warning", what, "budget.count", "oproxy config set budget.count list")
    for name, backend in settings.backends.items():
        if backend.api_key_env and not backend.api_key and not env.get(backend.api_key_env):
            what = f"{backend.api_key_env} is not set here, so no key is sent to it"
            yield Finding("config", "warning", what, f"backends.{name}.api_key_env", f"export {backend.api_key_env}=…")


# --- the environment ----------------------------------------------------------------------------------------------


async def check_environment(scene: Scene) -> list[Finding]:
    """Tell which variables would mislead a client that is started from here."""
    base = scene.running.url if scene.running is not None else address(scene.settings)
    env = scene.env
    found = [*urls(env, base), *keys(env, scene.settings, base), *proxies(env, base), *others(env)]
    return found or [Finding("environment", "ok", "nothing in it would mislead a client")]


def others(env: Mapping[str, str]) -> Iterator[Finding]:
    for name in CA_FILES:
        file = env.get(name)
        if file and not Path(file).exists():
            what = f"{name} names a file that is not there, so HTTPS requests fail"
            yield Finding("environment", "warning", what, file, f"unset {name}")
    for name in ORGANIZATION:
        if env.get(name):
            yield Finding("environment", "note", f"{name} is set; it is sent along and means nothing here", name)


def urls(env: Mapping[str, str], base: str) -> Iterator[Finding]:
    """Yield what is wrong with where clients are sent."""
    remedy = 'eval "$(oproxy env)"'
    if not env.get("OPENAI_BASE_URL"):
        yield Finding("environment", "note", "OPENAI_BASE_URL is not set, so clients go to OpenAI", "", remedy)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        value = env.get(name, "")
        if value and not same_place(urlsplit(value), urlsplit(base)):
            yield Finding(
                "environment", "warning", f"{name} sends clients elsewhere, not to {base}/v1", redact_url(value), remedy
            )
        elif value and urlsplit(value).scheme != urlsplit(base).scheme:
            what = f"{name} says {urlsplit(value).scheme}, and {urlsplit(base).scheme} is what is spoken there"
            yield Finding("environment", "warning", what, redact_url(value), remedy)
        elif value and urlsplit(value).path.rstrip("/") != "/v1":
            yield Finding("environment", "warning", f"{name} must end in /v1", redact_url(value), remedy)
    if env.get("OPENAI_API_BASE") and not env.get("OPENAI_BASE_URL"):
        what = "only OPENAI_API_BASE is set, which today's OpenAI libraries do not read"
        yield Finding("environment", "warning", what, "OPENAI_API_BASE", remedy)
    if env.get("OPENAI_API_TYPE", "").startswith("azure"):
        what = "OPENAI_API_TYPE makes clients speak Azure's API"
        yield Finding("environment", "warning", what, "OPENAI_API_TYPE", "unset OPENAI_API_TYPE")


def same_place(one: SplitResult, other: SplitResult) -> bool:
    """Return whether two URLs lead to the same port of the same machine."""

    def place(url: SplitResult) -> tuple[str, int | None]:
        host = url.hostname or ""
        try:
            port = url.port
        except ValueError:
            port = None
        return "loopback" if host in LOOPBACK else host, port or {"http": 80, "https": 443}.get(url.scheme)

    return place(one) == place(other)


def keys(env: Mapping[str, str], settings: Settings, base: str) -> Iterator[Finding]:
    """Yield what is wrong with the key that clients send."""
    key, place = env.get("OPENAI_API_KEY", ""), urlsplit(env.get("OPENAI_BASE_URL", ""))
    if not same_place(place, urlsplit(base)):
        return
    if REAL_KEY.fullmatch(key) and not key.startswith("sk-oproxy-"):
        what = f"OPENAI_API_KEY looks like a real key of OpenAI's ({key[:7]}…{key[-4:]}), and clients send it to us"
        yield Finding("environment", "warning", what, "OPENAI_API_KEY", 'eval "$(oproxy env)"')
    elif not key:
        what = "OPENAI_API_KEY is not set, and OpenAI's libraries do not start without one"
        yield Finding("environment", "warning", what, "OPENAI_API_KEY", 'eval "$(oproxy env)"')
    elif settings.auth.mode == "on" and not key.startswith("sk-oproxy-"):
        what = "OPENAI_API_KEY is no key of ours, and one is asked for"
        yield Finding("environment", "note", what, "OPENAI_API_KEY", "oproxy keys create NAME")


def proxies(env: Mapping[str, str], base: str) -> Iterator[Finding]:
    """Yield a proxy that would get what is meant for us."""
    url = urlsplit(base)
    host = url.hostname or ""
    names = (f"{url.scheme}_proxy", "all_proxy")
    variable = next((form for name in names for form in (name, name.upper()) if env.get(form)), None)
    if variable is None:
        return
    spared = re.split(r"[,\s]+", env.get("no_proxy") or env.get("NO_PROXY") or "")
    if not any(name == "*" or name.lower().lstrip(".") == host or same_host(name, host) for name in spared):
        value = ",".join(filter(None, (*spared, "localhost", "127.0.0.1", "::1")))
        what = f"clients that mind {variable} send what is meant for us to that proxy"
        yield Finding("environment", "warning", what, redact_url(env[variable]), f"export no_proxy={value}")


def same_host(name: str, host: str) -> bool:
    """Return whether a name of no_proxy covers a host: as it stands, with a port, or as a network 127.0.0.0/8."""
    return name.rpartition(":")[0] == host or (name.startswith("127.0.0.0/") and host.startswith("127."))
