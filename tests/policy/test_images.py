"""Images wherever they are in a conversation: found, fetched ones put back, others left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.model import Ask, Image, Message, Text, ToolResult
from ollama_proxy.policy.images import map_images, remote_images, with_fetched

HERE = Image(data="aGVyZQ==", media_type="image/png", param="here")
A, B = "https://a.example/a.png", "https://b.example/b.png"


def ask(*messages: Message) -> Ask:
    return Ask(model="m", messages=messages)


def image(url: str, param: str, detail: str | None = None) -> Image:
    return Image(url=url, param=param, detail=detail)


def test_images_to_be_fetched_are_found_in_messages_and_in_tool_results_each_url_once() -> None:
    question = ask(
        Message("user", (Text("Look"), image(A, "first"), HERE)),
        Message("tool", (ToolResult("call_1", (Text("a"), image(B, "second"), image(A, "third"))),)),
    )
    assert remote_images([question]) == {A: image(A, "first"), B: image(B, "second")}


def test_fetched_images_are_put_back_in_every_place_with_its_own_path_and_detail() -> None:
    question = ask(
        Message("user", (Text("Look"), image(A, "first", "low"), HERE), "ann"),
        Message("tool", (ToolResult("call_1", (Text("a"), image(A, "second")), "look"),)),
    )
    fetched = {A: Image(data="QQ==", media_type="image/gif", param="first")}
    assert with_fetched(question, fetched) == ask(
        Message("user", (Text("Look"), Image("QQ==", "image/gif", None, "low", "first"), HERE), "ann"),
        Message("tool", (ToolResult("call_1", (Text("a"), Image("QQ==", "image/gif", None, None, "second")), "look"),)),
    )


def test_a_conversation_without_images_is_left_as_it_is() -> None:
    question = ask(Message("user", (Text("Hi"),)), Message("tool", (ToolResult("call_1", (Text("a"),)),)))
    assert remote_images([question]) == {}
    assert with_fetched(question, {}) is question


PARTS = st.recursive(
    st.one_of(
        st.builds(Text, st.sampled_from(["a", "b"])),
        st.just(HERE),
        st.builds(image, st.sampled_from([A, B]), st.sampled_from(["p", "q"])),
    ),
    lambda inner: st.builds(lambda parts: ToolResult("call_1", tuple(parts)), st.lists(inner, max_size=3)),
    max_leaves=3,
).filter(lambda part: not isinstance(part, ToolResult) or not any(isinstance(e, ToolResult) for e in part.parts))


@given(st.lists(st.lists(PARTS, max_size=3), max_size=3))
def test_after_all_is_fetched_nothing_is_left_to_fetch_and_nothing_else_has_changed(rows: list[list[object]]) -> None:
    question = ask(*(Message("user", tuple(parts)) for parts in rows))  # type: ignore[arg-type]
    fetched = {url: Image(data="QQ==", media_type="image/gif") for url in remote_images([question])}
    settled = with_fetched(question, fetched)
    assert remote_images([settled]) == {}
    blank = Image()
    assert map_images(settled, lambda _: blank) == map_images(question, lambda _: blank)
