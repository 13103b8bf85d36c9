"""Forms of files, read and told."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.errors import Invalid
from ollama_proxy.translate import files
from ollama_proxy.translate.shapes_files import ExpiresAfter
from tests.shapes import check

NOW = 1_800_000_000


def test_a_form_is_read_whatever_the_order_and_what_is_not_known_is_named() -> None:
    shape, unknown = files.parse_form(
        [("x", "1"), ("expires_after[seconds]", "3600"), ("purpose", "batch"), ("x", "2"),
         ("expires_after[anchor]", "created_at"), ("y[z]", "3"), ("expires_after[", "4")]
    )  # fmt: skip

    assert (shape.purpose, shape.expires_after) == ("batch", ExpiresAfter(anchor="created_at", seconds=3600))
    assert unknown == ("x", "y[z]", "expires_after[")


def test_the_last_of_fields_of_one_name_counts() -> None:
    assert files.parse_form([("purpose", "batch"), ("purpose", "vision")])[0].purpose == "vision"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["purpose", "expires_after", "expires_after[seconds]", "expires_after[anchor]", "a"])
            | st.text(),
            st.sampled_from(["batch", "created_at", "3600", "{}", '{"anchor": 1}', "[" * 2000, "9" * 5000]) | st.text(),
        )
    )
)
def test_whatever_a_form_says_only_a_refusal_comes_out(fields: list[tuple[str, str]]) -> None:
    try:
        shape, unknown = files.parse_form(fields)
    except Invalid as exc:
        check("ErrorResponse", exc.body())
    else:
        assert shape.purpose in files.PURPOSES
        assert set(unknown) <= {name[:100] for name, _ in fields}


@pytest.mark.parametrize(
    ("purpose", "after", "want"),
    [
        ("user_data", None, None),
        ("batch", None, NOW + 30 * 86400),
        ("batch", 3600, NOW + 3600),
        ("user_data", 2592000, NOW + 2592000),
    ],
)
def test_files_of_batches_expire_by_themselves(purpose: str, after: int | None, want: int | None) -> None:
    said = ExpiresAfter(anchor="created_at", seconds=after) if after is not None else None

    assert files.expiry(purpose, said, NOW) == want


@given(st.text(max_size=300))
def test_the_header_of_a_download_is_one_line_of_ascii_whatever_the_name(name: str) -> None:
    name = files.clean_name(name)
    header = files.disposition(name)

    assert header.isascii()
    assert header.isprintable()
    head, _, extended = header.partition("; filename*=UTF-8''")
    assert head.startswith('attachment; filename="')
    assert head.endswith('"')
    assert head.count('"') == 2
    assert "/" not in head
    assert "\\" not in head
    if extended:
        assert unquote(extended) == name[:200]
    else:
        assert head == f'attachment; filename="{name}"'


@given(st.text(st.characters(codec=None) | st.characters(categories=["Cs"]), max_size=50))
def test_a_name_is_text_that_can_be_sent(name: str) -> None:
    cleaned = files.clean_name(name)

    assert cleaned.encode().decode() == cleaned
    assert cleaned == name or any("\ud800" <= c <= "\udfff" for c in name)


@pytest.mark.parametrize(("text", "message"), [(True, "expected a file, but got a string"), (False, "Missing")])
def test_a_form_without_its_file_is_told(text: bool, message: str) -> None:
    error = files.no_content("file", text=text)

    assert message in error.message
    assert error.param == "file"


def test_the_objects_fit_openais_shapes() -> None:
    file = files.write_file(id="file-1", size=3, created=NOW, expires=NOW + 1, filename="a", purpose="batch")
    upload: dict[str, Any] = {
        "id": "upload_1", "bytes": 3, "created_at": NOW, "expires_at": NOW + 1, "filename": "a", "purpose": "batch",
        "owner": "key_1", "mime_type": "text/plain",
    }  # fmt: skip

    check("OpenAIFile", {key: value for key, value in file.items() if value is not None})
    check("DeleteFileResponse", files.write_deleted("file-1"))
    check("UploadPart", files.write_part(id="part_1", upload="upload_1", created=NOW))
    told = files.write_upload(upload, status="pending")
    check("Upload", {key: value for key, value in told.items() if value is not None})
    assert "owner" not in told


def test_an_id_that_is_not_there_is_shown_by_its_beginning() -> None:
    assert files.no_file("x" * 5000).message == f"No such File object: {'x' * 100}"
    assert files.no_upload("x" * 5000).message == f"No such Upload object: {'x' * 100}"
