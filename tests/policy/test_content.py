"""Images, sound and files against what a model can take; data URIs; thinking."""

from __future__ import annotations

import base64

import pytest

from ollama_proxy.errors import Invalid
from ollama_proxy.model import Ask, Audio, File, Image, Message, ModelInfo, Part, Reasoning, Text, ToolResult
from ollama_proxy.policy.content import inlined, settle_content
from ollama_proxy.policy.images import parse_data_uri, settle_data_uris, sniff
from ollama_proxy.policy.think import settle_reasoning

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 20
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
GIF = b"GIF89a" + b"\0" * 10


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(*parts: Part) -> Ask:
    return Ask(model="m", messages=(Message("user", parts),))


def info(*can: str) -> ModelInfo:
    return ModelInfo(id="id", backend="b", capabilities=frozenset(can))


@pytest.mark.parametrize(
    ("data", "type"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (GIF, "image/gif"), (b"<svg>", None), (b"", None)],
)
def test_the_first_bytes_tell_the_type(data: bytes, type: str | None) -> None:
    assert sniff(data) == type


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{b64(PNG)}",
        f"DATA:image/jpeg;charset=x;BASE64,{b64(PNG).rstrip('=')}",
        f"data:;base64,{b64(PNG)[:9]}\n {b64(PNG)[9:]}",
        f"data:image/png;base64,{b64(PNG).replace('=', '%3D')}",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
)
def test_a_data_uri_is_decoded_and_its_type_told_by_its_bytes(url: str) -> None:
    image = parse_data_uri(url, "p")
    assert (base64.b64decode(image.data or ""), image.media_type, image.param) == (PNG, "image/png", "p")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png;base64,@@@@", "invalid_base64"),
        ("data:image/png;base64,", "invalid_base64"),
        ("data:image/png;base64,é", "invalid_base64"),
        ("data:image/png;base64", "invalid_image_url"),
        ("http://x", "invalid_image_url"),
        (f"data:image/png;base64,{b64(b'<svg/>')}", "invalid_image_format"),
    ],
)
def test_bad_data_uris_are_refused(url: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_data_uri(url, "messages[0].content[1].image_url.url")
    assert (caught.value.code, caught.value.param) == (code, "messages[0].content[1].image_url.url")


def test_data_uris_are_settled_everywhere_and_links_left() -> None:
    uri = Image(url=f"data:image/png;base64,{b64(GIF)}", detail="low", param="p")
    link = Image(url="http://x/y.png")
    settled = Image(data=b64(GIF), media_type="image/gif", detail="low", param="p")
    assert settle_data_uris(ask(Text("t"), uri, link, ToolResult("c", (uri,)))) == ask(
        Text("t"), settled, link, ToolResult("c", (settled,))
    )
    plain = ask(Text("t"))
    assert settle_data_uris(plain) is plain


def test_decoded_images_get_their_true_type_too() -> None:
    assert settle_data_uris(ask(Image(data=b64(JPEG), media_type="image/png"))) == ask(
        Image(data=b64(JPEG), media_type="image/jpeg")
    )
    with pytest.raises(Invalid):
        settle_data_uris(ask(Image(data=b64(b"%PDF-1.4"), media_type="image/png")))


def test_images_need_a_model_that_sees() -> None:
    seen = ask(Image(data="x", param="messages[0].content[0]"))
    assert settle_content(seen, info("vision")) == seen
    assert settle_content(seen, ModelInfo(id="i", backend="b")) == seen
    with pytest.raises(Invalid, match="`m` \\(id\\) cannot") as caught:
        settle_content(seen, info("completion"))
    assert caught.value.param == "messages[0].content[0]"
    with pytest.raises(Invalid):
        settle_content(ask(ToolResult("c", (Image(data="x"),))), info("completion"))


def test_sound_needs_a_model_that_hears() -> None:
    heard = ask(Audio("x", "wav", param="p"))
    assert settle_content(heard, info("audio")) == heard
    with pytest.raises(Invalid, match="input_audio"):
        settle_content(heard, info("completion"))


@pytest.mark.parametrize(
    ("data", "type", "text"),
    [
        (b"a,b\n1,2", "text/csv", "a,b\n1,2"),
        ("é".encode(), None, "é"),
        (b"\xef\xbb\xbfhi", None, "hi"),
        ("hi".encode("utf-16"), None, "hi"),
        (b"caf\xe9", "text/plain", "café"),
        (b'{"a": 1}', "application/octet-stream", '{"a": 1}'),
        (b"", "text/plain", ""),
    ],
)
def test_text_files_become_text_under_their_name(data: bytes, type: str | None, text: str) -> None:
    file = File(data=b64(data), media_type=type, filename="f.txt")
    assert settle_content(ask(file), info()) == ask(Text(f"File: f.txt\n\n{text}"))
    assert inlined(File(data=b64(data), media_type=type)) == Text(text)


@pytest.mark.parametrize(
    "file",
    [
        File(data=b64(b"%PDF-1.7"), media_type="application/pdf", filename="a.pdf", param="p"),
        File(data=b64(b"\xff\x00\x01"), media_type="text/plain", param="p"),
        File(data=b64(b"a\0b"), param="p"),
        File(data=b64(b"caf\xe9"), media_type="application/zip", param="p"),
        File(data="@", param="p"),
        File(file_id="file-1", param="p"),
    ],
)
def test_other_files_are_refused_by_name(file: File) -> None:
    with pytest.raises(Invalid) as caught:
        settle_content(ask(file), info())
    assert caught.value.param == "p"
    assert (file.filename or file.file_id or "") in caught.value.message


@pytest.mark.parametrize(
    ("reasoning", "can", "left", "ignored"),
    [
        (Reasoning(effort="high"), ("thinking",), Reasoning(effort="high"), ()),
        (Reasoning(effort="high", summary="auto"), (), Reasoning(summary="auto"), ("reasoning_effort",)),
        (Reasoning(effort="none"), (), Reasoning(), ()),
        (Reasoning(), (), Reasoning(), ()),
        (Reasoning(effort="low", think=True), (), Reasoning(effort="low", think=True), ()),
    ],
)
def test_effort_has_no_effect_on_a_model_that_cannot_think(
    reasoning: Reasoning, can: tuple[str, ...], left: Reasoning, ignored: tuple[str, ...]
) -> None:
    assert settle_reasoning(reasoning, info(*can)) == (left, ignored)
