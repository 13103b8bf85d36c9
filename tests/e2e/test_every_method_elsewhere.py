"""Every method of the official SDK that is not served by ourselves: what is forwarded arrives as if there were nobody
between, and what is refused is an error that the SDK knows and that says what to do."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

from ollama_proxy.sections import GROUPS
from tests.conftest import Start
from tests.fakes.openai import Answer, FakeOpenAI, Recorded, fake_openai
from tests.openai_routes import Sdk, methods

CONTROL = "the-control-token"
FILE = ("a.bin", b"\x00\r\n--\xff" * 1000, "application/octet-stream")
LIST = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
FORWARDED = [sdk for sdk in methods() if sdk.how == "forwarded"]
REFUSED = [sdk for sdk in methods() if sdk.how == "refused"]
# Headers in which two clients on two connections may differ.
OWN = {"host", "authorization", "accept-encoding", "connection", "content-length", "transfer-encoding", "content-type"}


@pytest.fixture(autouse=True)
def deprecated() -> Iterator[None]:
    """Deprecated methods are methods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def client(url: str, key: str = CONTROL) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key=key, admin_api_key=key, max_retries=0)


def value(annotation: str) -> Any:
    """Return something that fits a parameter, as far as a request is concerned."""
    if "FileTypes" in annotation or annotation.endswith("Video"):
        return FILE
    if literal := re.search(r"Literal\['([^']*)'", annotation):
        return [literal[1]] if annotation.startswith("List") else literal[1]
    if annotation == "int":
        return 7
    if annotation.startswith(("Iterable", "Sequence", "List")):
        return []
    if "str" in annotation.split("[")[0] or annotation.startswith(("Union[str", "VideoSeconds")):
        return "x y/ü"
    return {"some": {"thing": [1.5, None, True]}}


def call(made: openai.AsyncOpenAI, sdk: Sdk) -> Callable[[], Awaitable[Any]]:
    """Return the method with all that it must be given."""
    method: Any = made
    for part in sdk.call.split("."):
        method = getattr(method, part)
    parameters = inspect.signature(method).parameters
    given = {name: f"{name}-1" for name in parameters if f"{{{name}}}" in sdk.path}
    needed = [name for name, each in parameters.items() if each.default is inspect.Parameter.empty]

    def made_call() -> Awaitable[Any]:
        for name in needed:
            given.setdefault(name, value(str(parameters[name].annotation)))
        try:
            answer: Awaitable[Any] = method(**given)
        except TypeError as exc:
            # A method of several forms names what each needs: ('a', 'b' and 'c') or ('d' and 'e').
            forms = re.search(r"Expected either \((.*?)\)|Missing required argument: (.*)", str(exc))
            if forms is None:
                raise
            needed.extend(re.findall(r"'(\w+)'", forms[0]))
            return made_call()
        return answer

    return made_call


async def outcome(made: openai.AsyncOpenAI, sdk: Sdk) -> str:
    """Make the call; return what came of it, as far as a client can tell."""
    try:
        answer = await call(made, sdk)()
    except openai.OpenAIError as exc:
        return f"{type(exc).__name__}: {exc}"
    return type(answer).__name__


def essence(recorded: Recorded) -> tuple[Any, ...]:
    """Return what counts of a request: boundaries of forms are random."""
    kind, data = recorded.headers.get("content-type", ""), recorded.data
    if found := re.search("boundary=(.*)", kind):
        kind, data = kind.replace(found[1], "B"), data.replace(found[1].encode(), b"B")
    headers = {name: text for name, text in recorded.headers.items() if name not in OWN}
    return recorded.method, recorded.target, kind, data, headers


def test_there_is_something_to_forward_and_to_refuse() -> None:
    assert len(FORWARDED) > 150
    assert len(REFUSED) > 100


async def test_what_is_forwarded_arrives_as_it_was_sent(start_proxy: Start) -> None:
    async with fake_openai() as lab:
        lab.elsewhere = Answer(body=LIST)
        serves = ", ".join(f'"{group}"' for group in GROUPS)
        proxy = await start_proxy(
            f'[backends.lab]\ntype = "openai"\nurl = "{lab.url}"\napi_key = "sk-of-the-lab"\nserves = [{serves}]\n',
        )
        async with client(lab.url) as straight, client(f"{proxy.url}/v1") as through:
            for sdk in FORWARDED:
                await one(lab, straight, through, sdk)


async def one(lab: FakeOpenAI, straight: openai.AsyncOpenAI, through: openai.AsyncOpenAI, sdk: Sdk) -> None:
    lab.calls.clear()
    expected = await outcome(straight, sdk)
    assert len(lab.calls) == 1, (sdk.call, expected)
    assert await outcome(through, sdk) == expected, sdk.call
    assert len(lab.calls) == 2, sdk.call
    direct, passed = lab.calls
    assert essence(passed) == essence(direct), sdk.call
    assert direct.method == sdk.method
    assert passed.headers["authorization"] == "Bearer sk-of-the-lab"


@pytest.mark.parametrize("which", ["forwarded", "refused"])
async def test_what_nobody_serves_is_not_found_and_the_sdk_says_why(start_proxy: Start, which: str) -> None:
    # Whatever is OpenAI's alone takes an administrator to ask for.
    proxy = await start_proxy("[backends]\n", control=CONTROL)
    async with client(f"{proxy.url}/v1") as made:
        for sdk in FORWARDED if which == "forwarded" else REFUSED:
            with pytest.raises(openai.NotFoundError) as caught:
                await call(made, sdk)()
            assert caught.value.code == "not_served_here", sdk.call
            wanted = "serves = " if which == "forwarded" else "does not have"
            assert wanted in caught.value.message, sdk.call
