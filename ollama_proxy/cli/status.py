"""`oproxy status` and `oproxy stop`: the daemon from outside."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import aiohttp
import typer

from .. import daemon
from ..policy.lag import BLOCKED
from .client import Api, ApiError
from .failure import Failure
from .output import echo, errors, interactive, print_json, print_pairs, print_table, tell

__all__ = ["blocked_text", "status", "stop"]

# A daemon that lives answers at once; its backends may take a connection's time to be found dead.
PATIENCE = aiohttp.ClientTimeout(total=20)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell whether the daemon runs, where, and how its backends are.

    The exit status is 0 when it runs and answers, else 1.
    """
    state = daemon.running()
    if state is None:
        if as_json:
            print_json({"running": False})
            raise typer.Exit(1)
        raise Failure(daemon.absence())
    try:
        health = asyncio.run(asked(state))
    except ApiError as exc:
        raise Failure(
            f"Process {state.pid} holds {state.url} but does not answer: {exc.message} `oproxy stop --force` ends it."
        ) from exc
    if as_json:
        print_json({"running": True, "url": f"{state.url}/v1", "log": state.log, **health})
        return
    show(state, health)


async def asked(state: daemon.State) -> dict[str, Any]:
    async with aiohttp.ClientSession(timeout=PATIENCE, trust_env=False) as session:
        api = Api(session, state.url, inside=False, token=state.token)
        found: dict[str, Any] = await api.get("/v1/health")
        return found


def show(state: daemon.State, health: dict[str, Any]) -> None:
    pairs = [
        ("running", f"process {state.pid}, oproxy {state.version}"),
        ("url", f"{state.url}/v1"),
        ("up", span(time.time() - state.started)),
        ("config", state.config or "none (defaults)"),
        *config(health),
        ("log", state.log or "the terminal it was started in"),
    ]
    print_pairs([*pairs, *accounts(health)], column=9)
    echo()
    rows = [
        (each["name"], each["type"], each["state"], each["version"], each["models"], each["running"], each["detail"])
        for each in health["backends"]
    ]
    print_table(("BACKEND", "TYPE", "STATE", "VERSION", "MODELS", "RUNNING", ""), rows, right=(4, 5))


def config(health: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines on a config file that is not in force as it is."""
    problem = [("", line) for line in health.get("config_problem", "").splitlines()]
    return problem + [("", line) for line in health.get("config_held", ())]


def accounts(health: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines on keys, books and budgets: what is in order in a word, what is not with its cause."""
    out = [("keys", "asked for" if health.get("auth") == "on" else "any key or none is accepted")]
    if (ledger := health.get("ledger")) is not None:
        state = "in order" if ledger["ok"] else f"FAILING {trouble(ledger)}; {ledger['waiting']} rows wait in memory"
        out.append(("ledger", state + (f"; {ledger['dropped']} rows are lost" if ledger["dropped"] else "")))
    if (store := health.get("store")) is not None:
        out.append(("database", f"FAILING {trouble(store)}"))
    if (recorder := health.get("recorder")) is not None and (recorder["error"] or recorder["dropped"]):
        waiting = f"{recorder['waiting']} requests wait in memory" if recorder["error"] and recorder["waiting"] else ""
        dropped = f"{recorder['dropped']} requests were not recorded" if recorder["dropped"] else ""
        out.append(("logs", "; ".join(filter(None, (recorder["error"], waiting, dropped)))))
    if (recorder := health.get("recorder")) is not None and (reduced := recorder.get("reduced")):
        causes = ", ".join(f"{name}: {count}" for name, count in reduced.items())
        out.append(("logs", f"requests were recorded without their bodies ({causes})"))
    if (limits := health.get("limits")) is not None:
        out.append(("limits", "shared" if limits["ok"] else f"the shared server is away {trouble(limits)}"))
    if (https := health.get("https")) is not None and not https["ok"]:
        out.append(("HTTPS", f"FAILING {trouble(https)}"))
    if text := blocked_text(health.get("loop")):
        out.append(("loop", text))
    if (memory := health.get("memory")) is not None:
        out.append(("memory", memory_text(memory)))
    out += [("budget", alert_text(alert)) for alert in health.get("alerts", ())]
    out += [
        ("queue", f"{each['backend']}/{each['model']}: {each['running']} running, {each['waiting']} waiting")
        for each in health.get("queue", ())
        if each["waiting"]
    ]
    return out


def blocked_text(loop: dict[str, Any] | None) -> str:
    """Return what is to be said of an event loop that was blocked in the last minute; "" for one that was not."""
    if loop is None or loop["max_ms"] <= BLOCKED * 1000:
        return ""
    return f"BLOCKED for {loop['max_ms']:.0f} ms in the last minute: all requests waited; the log names them"


def trouble(part: dict[str, Any]) -> str:
    """Return since when a part of the daemon does not work, and why: `for 5 min 3 s: connection refused`."""
    since = part.get("since")
    error = str(part.get("error") or "it cannot be reached")
    return f"for {span(time.time() - since)}: {error}" if since is not None else error


def memory_text(memory: dict[str, Any]) -> str:
    """Return what requests hold of their memory, and how many were refused for want of it."""
    text = f"{size_text(memory['held'])} of {size_text(memory['budget'])} held by requests"
    return f"{text}; {memory['refused']} refusals" if memory["refused"] else text


def size_text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def alert_text(alert: dict[str, Any]) -> str:
    spent, budget = alert["spent"], alert["budget"]
    figures = f"${spent:,.2f} of ${budget:,.2f}" if alert["unit"] == "usd" else f"{spent:,.0f} of {budget:,.0f} tokens"
    return f"{alert['scope']}: {alert['share']:.0%} of the {alert['window']}'s budget is spent ({figures})"


def span(seconds: float) -> str:
    """Return a time as people say it: `42 s`, `5 min 3 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, int(seconds))
    for big, small, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            rest = whole % size // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s"


def stop(
    force: Annotated[bool, typer.Option("--force", help="Kill it at once; running answers break off.")] = False,
) -> None:
    """Stop the daemon; running answers may finish within the grace time (`grace` under `[server]`)."""
    state = daemon.running()
    if state is None:
        raise Failure(daemon.absence())
    try:
        if interactive():
            with errors().status("") as spinner:
                for waited in daemon.end(state, force=force):
                    spinner.update(f"Waiting for running answers, {waited:.0f} of {state.grace:.0f} s …")
        else:
            for _ in daemon.end(state, force=force):
                pass
    except daemon.DaemonError as exc:
        raise Failure(exc.message) from exc
    tell(f"The daemon (process {state.pid}) has ended.")
