"""One field of a form, however the form is cut into pieces."""

from collections.abc import AsyncIterator

import pytest

from gateway.api.multipart import HEAD_BYTES_MAX, field, is_form
from gateway.refusals import Malformed

TYPE = "multipart/form-data; boundary=xYz"
DATA = b"one\r\n--xY not the end\r\n\r\n--x\r\nlast\r\n"
FORM = (
    b'preamble\r\n--xYz\r\nContent-Disposition: form-data; name="other"\r\n\r\nnothing\r\n'
    b'--xYz  \r\ncontent-type: text/plain\r\nContent-Disposition: form-data; name="data"; filename="a;b"\r\n\r\n'
    + DATA
    + b"\r\n--xYz\r\nContent-Disposition: form-data; name=data\r\n\r\nsecond\r\n--xYz--\r\nepilogue"
)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def taken(data: bytes, size: int = 7, content_type: str = TYPE) -> bytes:
    return b"".join([piece async for piece in field(pieces(data, size), content_type, "data")])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
async def test_the_field_is_found_whole(size: int) -> None:
    """The first of its name, with all that looks like a boundary and is none."""
    assert await taken(FORM, size) == DATA


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (b'--xYz\r\nContent-Disposition: form-data; name="data"\r\n\r\n\r\n--xYz--', b""),
        (b'--xYz\r\nContent-Disposition: form-data; name="Data"\r\n\r\nx\r\n--xYz--', b""),
        (b"--xYz\r\n\r\nx\r\n--xYz--", b""),
        (b"--xYz--", b""),
    ],
)
async def test_a_form_without_it_has_nothing(form: bytes, data: bytes) -> None:
    """Which is told as an empty dump is."""
    assert await taken(form) == data


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"no form",
        FORM[:40],
        FORM[:150],
        FORM[: FORM.index(b"second")],
        b"--xYz junk\r\n\r\nx\r\n--xYz--",
        b"--xYz\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX,
    ],
)
async def test_what_is_no_form_or_ends_early_is_malformed(form: bytes) -> None:
    """Nothing is kept of a form that was cut off."""
    with pytest.raises(Malformed):
        await taken(form)


async def test_the_type_names_the_boundary() -> None:
    """In quotes or without, among other parameters."""
    for content_type in ('Multipart/Form-Data; charset=x; boundary="xYz"', "multipart/form-data;BOUNDARY=xYz; a=b"):
        assert is_form(content_type)
        assert await taken(FORM, 7, content_type) == DATA
    with pytest.raises(Malformed):
        await taken(FORM, 7, "multipart/form-data")
    assert not is_form("text/plain; x=multipart/form-data")
