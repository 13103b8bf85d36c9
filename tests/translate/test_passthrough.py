"""Bytes that pass through: only the model's name and the usage nobody asked for are touched, at every cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import BackendError, UpstreamDown, UpstreamFailed
from ollama_proxy.events import Usage
from ollama_proxy.translate import passthrough
from ollama_proxy.translate.passthrough import StreamObserver, inputs_of, observe_whole, rewrite_request

DONE = b"data: [DONE]\n\n"


def fields(body: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def chunk(delta: str = '{"content":"a"}', finish: str = "null", model: str = "up", more: str = "") -> bytes:
    """Return one event in the spacing of OpenAI's own server."""
    return (
        f'data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"{model}","choices":[{{"index":0,'
        f'"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{more}}}\n\n'
    ).encode()


def usage_chunk(model: str = "up") -> bytes:
    return (
        f'data: {{"id":"c","model":"{model}","choices":[],"usage":{{"prompt_tokens":5,"completion_tokens":2,'
        f'"total_tokens":7,"prompt_tokens_details":{{"cached_tokens":1}}}}}}\n\n'
    ).encode()


STREAM = (
    chunk('{"role":"assistant","content":""}', more=',"usage":null')
    + chunk(more=',"usage":null')
    + b": keep-alive\n\n"
    + chunk('{"content":"é\\n\\n\\"model\\":\\"up\\""}', more=',"usage":null')
    + chunk("{}", '"stop"', more=',"usage":null')
    + usage_chunk()
    + DONE
)
# Seen by a client that knows the model as `gpt-4o` and asked for no usage.
STRIPPED = STREAM.replace(b'"model":"up",', b'"model":"gpt-4o",').replace(b',"usage":null', b"").replace(
    usage_chunk("gpt-4o"), b""
)  # fmt: skip


def passed(observer: StreamObserver, *pieces: bytes) -> bytes:
    out = b"".join(observer.feed(piece) for piece in pieces)
    return out + observer.flush()


# --- requests -----------------------------------------------------------------------------------------------------


def test_a_request_keeps_every_values_bytes_but_the_models() -> None:
    body = b'{"model": "gpt-4o", "messages" : [ {"role":"user", "content":"h\\u00e9"} ], "x": 1.0, "big": 1e400}'
    sent = rewrite_request(fields(body), model='a "b"', observe=False)
    assert sent == (b'{"model":"a \\"b\\"","messages":[ {"role":"user", "content":"h\\u00e9"} ],"x":1.0,"big":1e400}')


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"include_usage": True}),
        (',"stream_options":null', {"include_usage": True}),
        (',"stream_options":{"include_usage":false}', {"include_usage": True}),
        (',"stream_options":{"include_obfuscation":true}', {"include_obfuscation": True, "include_usage": True}),
    ],
)
def test_a_stream_is_asked_for_its_usage_beside_the_clients_own_options(options: str, expected: dict[str, Any]) -> None:
    body = f'{{"model":"m","stream":true{options}}}'.encode()
    assert passthrough.streams(fields(body))
    assert not passthrough.asks_usage(fields(body))
    sent = json.loads(rewrite_request(fields(body), model="m", observe=True))
    assert sent["stream_options"] == expected


def test_what_a_request_asks_for_is_seen() -> None:
    assert passthrough.asks_usage(fields(b'{"stream_options":{"include_usage": true }}'))
    assert not passthrough.streams(fields(b'{"stream": false}'))
    assert not passthrough.streams(fields(b"{}"))
    assert b"stream_options" not in rewrite_request(fields(b'{"stream":true}'), model="m", observe=False)


def test_another_spelling_of_the_model_does_not_get_past_it() -> None:
    body = b'{"MODEL":"secret","model":"asked","Model":"secret","modes":1}'
    assert rewrite_request(fields(body), model="served", observe=False) == b'{"model":"served","modes":1}'


# --- streams ------------------------------------------------------------------------------------------------------


def test_a_stream_is_renamed_and_the_usage_only_we_asked_for_taken_out_at_every_cut() -> None:
    for cut in range(len(STREAM)):
        observer = StreamObserver(asked="gpt-4o", strip_usage=True)
        assert passed(observer, STREAM[:cut], STREAM[cut:]) == STRIPPED
        assert (observer.usage, observer.finish, observer.error) == (Usage(5, 2, cached=1), "stop", None)
        assert observer.first_token
    observer = StreamObserver(asked="gpt-4o", strip_usage=True)
    assert passed(observer, *(STREAM[i : i + 1] for i in range(len(STREAM)))) == STRIPPED


def test_a_stream_goes_through_untouched_where_nothing_is_to_be_changed() -> None:
    observer = StreamObserver(asked="up", strip_usage=False)
    assert passed(observer, STREAM) == STREAM
    assert observer.usage == Usage(5, 2, cached=1)


def test_usage_that_the_client_asked_for_stays() -> None:
    observer = StreamObserver(asked="gpt-4o", strip_usage=False)
    out = passed(observer, STREAM)
    assert usage_chunk("gpt-4o") in out
    assert out.count(b'"usage":null') == 4


def test_usage_beside_choices_is_the_servers_own_way_and_stays() -> None:
    last = chunk("{}", '"stop"', more=',"usage":{"prompt_tokens":1,"completion_tokens":2}')
    observer = StreamObserver(asked="up", strip_usage=True)
    assert passed(observer, chunk() + last + DONE) == chunk() + last + DONE
    assert observer.usage == Usage(1, 2)


def test_every_event_is_passed_on_as_soon_as_it_is_complete() -> None:
    observer = StreamObserver(asked="up", strip_usage=False)
    assert observer.feed(chunk()[:-1]) == b""
    assert observer.feed(b"\n" + chunk()[:9]) == chunk()


def test_crlf_comments_and_fields_nobody_knows_go_through() -> None:
    event = b": hello\r\nid: 7\r\nevent: x\r\n" + chunk().replace(b"\n\n", b"\r\n") + b"retry: 5\r\n\r\n"
    answer = event + DONE
    for cut in range(len(answer)):
        observer = StreamObserver(asked="up", strip_usage=True)
        observer.finish = "stop"
        assert passed(observer, answer[:cut], answer[cut:]) == answer
    observer = StreamObserver(asked="gpt-4o", strip_usage=True)
    assert passed(observer, answer) == answer.replace(b'"model":"up"', b'"model":"gpt-4o"')


def test_data_without_the_space_is_seen_too() -> None:
    observer = StreamObserver(asked="gpt-4o", strip_usage=True)
    out = observer.feed(chunk().replace(b"data: ", b"data:"))
    assert json.loads(out[6:])["model"] == "gpt-4o"
    assert observer.feed(usage_chunk().replace(b"data: ", b"data:")) == b""


@pytest.mark.parametrize(
    "record",
    [
        '{"choices":[],"extra":{"model":"up"},"model":"up"}',
        '{"choices":[{"index":0,"delta":{"model":"up"}}],"model" : "up"}',
        '{"choices":[],"m\\u006fdel":"up"}',
        '{"model":"u\\u0070","choices":[]}',
        '{"choices":[{"index":0,"delta":{"content":"model"}}],"model":"up"}',
    ],
)
def test_only_the_name_at_the_top_is_changed_however_it_is_written(record: str) -> None:
    observer = StreamObserver(asked="gpt-4o", strip_usage=True)
    out = json.loads(observer.feed(b"data: " + record.encode() + b"\n\n")[6:])
    assert out == {**json.loads(record), "model": "gpt-4o"}


@pytest.mark.parametrize(
    "usage", ['"usage" : null', '"extra":{"usage":null},"usage":null', '"usage":null,"z":{"usage":1}']
)
def test_only_the_usage_at_the_top_is_taken_out(usage: str) -> None:
    record = f'{{{usage},"choices":[{{"index":0,"delta":{{}}}}]}}'
    observer = StreamObserver(asked="gpt-4o", strip_usage=True)
    expected = json.loads(record)
    del expected["usage"]
    assert json.loads(observer.feed(b"data: " + record.encode() + b"\n\n")[6:]) == expected


@pytest.mark.parametrize("odd", [b'data: {"model":5}\n\n', b"event: x\n\n", b": hello\n\n", b"data:\n\n"])
def test_what_is_not_quite_a_chunk_goes_on_as_it_is(odd: bytes) -> None:
    assert StreamObserver(asked="gpt-4o", strip_usage=True).feed(odd) == odd


@pytest.mark.parametrize(
    "odd",
    [
        *(
            b"nonsense",
            b"null",
            b"[]",
            b"[1]",
            b"5",
            b'"text"',
            b'{"choices":[',
            b'{"choices":[{"delta":{"content":"\xff"}}]}',
        ),
        *(b'{"error":"out of memory"}', b'{"object":"error","message":"out of memory"}', b'{"error":{"message":"x"}}'),
    ],
)
@pytest.mark.parametrize("before", [b"", chunk()])
def test_what_is_no_chunk_ends_the_stream_with_an_error(odd: bytes, before: bytes) -> None:
    """The SDKs fail at it in ways no program expects, or read an empty answer."""
    for end in (b"\n\n", b"\r\n\r\n"):
        observer = StreamObserver(asked="up", strip_usage=True, backend="lab")
        out = passed(observer, before + b"data: " + odd + end + chunk() + DONE)
        assert out.startswith(before)
        (event,) = out[len(before) :].removesuffix(end).removesuffix(b"\n\n").split(b"\n\n")
        assert isinstance(json.loads(event.removeprefix(b"data: "))["error"], dict)
        assert observer.error is not None


def test_an_event_named_an_error_is_one_in_whatever_form() -> None:
    observer = StreamObserver(asked="up", strip_usage=True, backend="lab")
    out = passed(observer, chunk() + b'event: error\ndata: {"message":"out of memory","type":"oom"}\n\n')
    assert json.loads(out[len(chunk()) + 6 :])["error"]["message"] == "out of memory"


def test_data_of_several_lines_is_one_document() -> None:
    event = b'data: {"model": "up",\ndata: "choices": [{"delta": {"content": "a"}}]}\n\n'
    assert StreamObserver(asked="up", strip_usage=True).feed(event) == event
    out = StreamObserver(asked="gpt-4o", strip_usage=True).feed(event)
    assert json.loads(out.removeprefix(b"data: "))["model"] == "gpt-4o"
    assert out.count(b"\n") == 2


@pytest.mark.parametrize("end", [b"", b"data: {}\n\n", b"data: {}\n\n" + DONE, DONE, b": hi\n\n", usage_chunk() + DONE])
def test_a_stream_without_a_choice_is_no_answer(end: bytes) -> None:
    observer = StreamObserver(asked="up", strip_usage=True, backend="lab")
    out = passed(observer, end)
    assert b'"error"' in out
    assert DONE not in out
    assert isinstance(observer.error, UpstreamDown)


WHOLE = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hi","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},'
    b'"logprobs":null,"finish_reason":"tool_calls"},{"index":1,"message":{"role":"assistant","content":"Ho"}}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2},"extra":1}'
)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n  "])
@pytest.mark.parametrize("strip", [True, False])
def test_a_document_is_told_as_a_stream_at_every_cut(before: bytes, strip: bool) -> None:
    body = before + WHOLE
    expected = passed(StreamObserver(asked="gpt-4o", strip_usage=strip), body)
    records = [json.loads(event[6:]) for event in expected.removesuffix(b"\n\n").split(b"\n\n")[:-1]]
    assert expected.endswith(DONE)
    assert {(record["model"], record["object"], record["extra"]) for record in records} == {
        ("gpt-4o", "chat.completion.chunk", 1)
    }
    assert len(records) == (4 if strip else 5)
    first, end, second, last = (record["choices"][0] for record in records[:4])
    assert first["delta"]["tool_calls"][0]["index"] == 0
    assert (first["delta"]["content"], end["finish_reason"], second["index"]) == ("Hi", "tool_calls", 1)
    assert last == {"index": 1, "delta": {}, "finish_reason": "stop"}
    for cut in range(len(body)):
        observer = StreamObserver(asked="gpt-4o", strip_usage=strip)
        assert passed(observer, body[:cut], body[cut:]) == expected
        assert (observer.usage, observer.first_token, observer.done) == (Usage(5, 2), True, True)


def test_a_text_completion_is_told_as_a_stream() -> None:
    body = b'{"id":"c","object":"text_completion","model":"up","choices":[{"index":0,"text":"Hi"}]}'
    out = passed(StreamObserver(asked="up", strip_usage=True, path="/completions"), body)
    assert out.endswith(DONE)
    assert json.loads(out[6:].split(b"\n\n")[0])["choices"] == [{"index": 0, "text": "Hi", "finish_reason": "stop"}]


def test_the_first_token_is_the_first_piece_of_an_answer() -> None:
    role = '{"role":"assistant","content":"","refusal":null}'
    for delta in ('{"reasoning_content":"h"}', '{"tool_calls":[{"index":0}]}', '{"content":" "}'):
        observer = StreamObserver(asked="up", strip_usage=False)
        seen = []
        for each in (role, delta):
            observer.feed(chunk(each))
            seen.append(observer.first_token)
        assert seen == [False, True]
    observer = StreamObserver(asked="up", strip_usage=False)
    observer.feed(b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')
    assert observer.first_token


# --- ends ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_stops_too_early_ends_in_an_error_at_every_cut() -> None:
    whole = chunk() + chunk("{}", '"stop"') + DONE
    for cut in range(len(chunk()) + len(chunk("{}", '"stop"')) - 2):
        observer = StreamObserver(asked="up", strip_usage=False)
        out = passed(observer, whole[:cut])
        *before, last = out.removesuffix(b"\n\n").split(b"\n\n")
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "backend_unreachable"
        assert before == ([chunk().removesuffix(b"\n\n")] if cut >= len(chunk()) - 2 else [])
        assert observer.error is not None


def test_a_finished_stream_without_its_mark_gets_it() -> None:
    answer = chunk() + chunk("{}", '"stop"')
    assert passed(StreamObserver(asked="up", strip_usage=False), answer) == answer + DONE
    assert passed(StreamObserver(asked="up", strip_usage=False), answer.rstrip()) == answer + DONE
    assert passed(StreamObserver(asked="up", strip_usage=False), (answer + DONE).rstrip()) == answer + DONE


def test_a_stream_is_finished_when_all_its_choices_are() -> None:
    first = b'data: {"choices":[{"index":0,"delta":{}},{"index":1,"delta":{}}]}\n\n'
    end = b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}\n\n'
    observer = StreamObserver(asked="up", strip_usage=False)
    assert b'"error"' in passed(observer, first + end % 0)
    observer = StreamObserver(asked="up", strip_usage=False)
    assert passed(observer, first + end % 0 + end % 1).endswith(DONE)


def test_an_error_of_the_backends_goes_through_and_is_the_end() -> None:
    answer = chunk() + b'data: {"error":{"message":"out of memory","code":500}}\n\n'
    observer = StreamObserver(asked="up", strip_usage=True)
    assert passed(observer, answer) == answer
    assert isinstance(observer.error, UpstreamFailed)
    assert observer.error.message == "out of memory"


def test_nothing_at_all_is_an_error() -> None:
    assert b'"error"' in StreamObserver(asked="up", strip_usage=False).flush()


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_any_cuts_give_the_same_bytes(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    assert passed(StreamObserver(asked="gpt-4o", strip_usage=True), *pieces) == STRIPPED


# --- whole answers ------------------------------------------------------------------------------------------------


CHAT, TEXTS, VECTORS = "/chat/completions", "/completions", "/embeddings"
SAID = b'"choices": [ {"message":{"content":"x"}} ]'


def test_a_whole_answer_is_renamed_and_its_usage_read() -> None:
    body = b'{ "model" : "up", %b, "usage": {"prompt_tokens":3,"completion_tokens":4} }' % SAID
    out, usage = observe_whole(body, CHAT, asked="gpt-4o")
    assert out == body.replace(b'"up"', b'"gpt-4o"')
    assert usage == Usage(3, 4)
    assert observe_whole(body, CHAT, asked="up")[0] is body


def test_embeddings_have_no_completion() -> None:
    body = b'{"object":"list","data":[{"embedding":"AAAA"}],"model":"up","usage":{"prompt_tokens":3,"total_tokens":3}}'
    assert observe_whole(body, VECTORS, asked="up") == (body, Usage(3, 0))


@pytest.mark.parametrize("path", [CHAT, TEXTS, VECTORS])
@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b" ",
            b"nonsense",
            b"null",
            b"[1]",
            b"[]",
            b"5",
            b'"text"',
            b"true",
            b"{}",
            b'{"model":null}',
            b"<html>x",
        ),
        *(
            b'{"choices":[]}',
            b'{"choices":null}',
            b'{"choices":[{}]}',
            b'{"choices":[1.0]}',
            b'{"choices":[{"message":null}]}',
        ),
        *(b'{"data":[]}', b'{"data":[{}]}', b'{"usage":null}', b'{"choices":[{"text":null}]}', b'{"data":null}'),
        *(b'{%b,"x":"\xff"}' % SAID, b'{"choices":[{"message":{"content":"x"}', b"[" * 100_000),
        *(DONE, b"data: null\n\n", b"data: {}\n\n" + DONE, b": hi\n\n", b"data", chunk()),
    ],
)
def test_a_body_that_is_no_answer_is_an_error(path: str, body: bytes) -> None:
    with pytest.raises(BackendError) as failed:
        observe_whole(body, path, asked="x", backend="lab")
    assert failed.value.status == 502
    assert "The backend 'lab' " in failed.value.message
    assert len(failed.value.message) < 300


def test_a_stream_is_gathered_into_the_document_that_was_asked_for() -> None:
    body, usage = observe_whole(STREAM, CHAT, asked="gpt-4o")
    answer = json.loads(body)
    assert (answer["id"], answer["model"], answer["object"]) == ("c", "gpt-4o", "chat.completion")
    assert answer["choices"][0]["message"]["content"] == 'aé\n\n"model":"up"'
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert usage is not None
    assert (usage.prompt, usage.completion) == (5, 2)
    text = b'data: {"model":"up","choices":[{"index":0,"text":"a","finish_reason":"stop"}]}\n\n' + DONE
    assert json.loads(observe_whole(text, TEXTS, asked="x")[0])["choices"][0]["text"] == "a"


def test_an_error_with_status_200_is_raised() -> None:
    with pytest.raises(UpstreamFailed, match="Unexpected endpoint"):
        observe_whole(b'{"error":"Unexpected endpoint or method. (POST /v1/embeddings)"}', VECTORS, asked="x")


# --- embeddings -------------------------------------------------------------------------------------------------------


def embedded(*vectors: Any) -> bytes:
    return json.dumps({"data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]}).encode()


@pytest.mark.parametrize(
    ("vectors", "inputs"),
    [
        ([[0.5]], 2),
        ([[0.5], [0.5]], 1),
        (["AAAAPw=="], 2),
        ([[]], 1),
        ([""], 1),
        (["no base64"], 1),
        (["AAAAPw"], 1),
        ([None], 1),
        ([{}], None),
        ([5], None),
        ([[0.5], "AAAA!w=="], 2),
    ],
)
def test_vectors_that_are_none_or_not_as_many_as_asked_for_are_no_answer(vectors: Any, inputs: int | None) -> None:
    with pytest.raises(UpstreamFailed, match="lab"):
        observe_whole(embedded(*vectors), VECTORS, asked="x", backend="lab", inputs=inputs)


@pytest.mark.parametrize("vectors", [[[0.5], [1]], ["AAAAPw==", "AAAAPw=="]])
def test_as_many_vectors_as_texts_pass_as_they_are(vectors: Any) -> None:
    body = embedded(*vectors)
    for inputs in (2, None):
        assert observe_whole(body, VECTORS, asked="x", inputs=inputs)[0] is body
    slashes = embedded("/w/+////").replace(b"/", rb"\/")
    assert observe_whole(slashes, VECTORS, asked="x", inputs=1)[0] is slashes


@pytest.mark.parametrize(
    ("input", "count"),
    [
        ("text", 1),
        (["a"], 1),
        (["a", "b"], 2),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        (["a", [1]], 2),
        ([1, "a"], None),
        ([], None),
        (None, None),
        ({"a": 1}, None),
    ],
)
def test_the_texts_of_a_request_are_counted_where_that_is_clear(input: Any, count: int | None) -> None:
    assert inputs_of({"input": msgspec.Raw(json.dumps(input).encode())}) == count
    assert inputs_of({}) is None
