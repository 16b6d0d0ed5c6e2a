"""Ranges and conditions of RFC 9110, those from hell included."""

import pytest
from starlette.datastructures import Headers

from gateway.api.downloads import disposition
from gateway.api.ranges import Span, UnsatisfiableError, asked_for, is_another, is_known

ETAG = '"ab"'
SIZE = 1000


def part(*ranges: str, if_range: str | None = None, size: int = SIZE) -> Span | None:
    headers = [(b"range", value.encode("latin-1")) for value in ranges]
    if if_range is not None:
        headers.append((b"if-range", if_range.encode("latin-1")))
    return asked_for(Headers(raw=headers), size, ETAG)


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-5000", 900, 1000),
        ("bytes=0-99999999999999999999999999", 0, 1000),
        (f"bytes=0-{'9' * 10_000}", 0, 1000),
        ("bytes=000000000000000000000000000000-0000000000000000000000000000001", 0, 2),
        ("BYTES=1-2", 1, 3),
        ("bytes= 1-2 ", 1, 3),
        ("bytes=,,1-2,,", 1, 3),
    ],
)
def test_one_range_is_served(value: str, start: int, end: int) -> None:
    """From the front, from the end, to the end, further than there is; units in any case, empty members of the list."""
    assert part(value) == (start, end)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1-2x",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=١-٢".encode().decode("latin-1"),
        "bytes=0x1-2",
        "bytes=1 -2",
        "bytes=--1",
        "bytes=1--2",
        "bytes =1-2",
        "lines=1-2",
        "bytes=0-1,a-b",
        "bytes=0-1,5-6",
        "bytes=0-,0-,0-,0-",
        "bytes=5000-,0-1",
        "bytes=" + "0-," * 20_000 + "0-",
    ],
)
def test_what_is_no_range_of_ours_is_answered_with_the_whole(value: str) -> None:
    """Malformed, of other units, or several at once."""
    assert part(value) is None


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=5000-,-0", f"bytes={9**99}-"])
def test_a_range_without_a_byte_in_it_is_told_so(value: str) -> None:
    """416, not an empty 206 and not the whole."""
    with pytest.raises(UnsatisfiableError):
        part(value)


def test_two_headers_are_none() -> None:
    """Who reads the first, and who reads the last, would disagree."""
    assert part("bytes=0-1", "bytes=5-6") is None


@pytest.mark.parametrize("tag", ['W/"ab"', '"cd"', "ab", "Wed, 21 Oct 2015 07:28:00 GMT", '"ab", "ab"', ""])
def test_a_range_of_something_else_is_answered_with_the_whole(tag: str) -> None:
    """Only the strong tag of these bytes says that what the caller has is a part of them."""
    assert part("bytes=5-6", if_range=tag) is None
    assert part("bytes=5-6", if_range=ETAG) == (5, 7)


@pytest.mark.parametrize(
    ("value", "known", "another"),
    [
        (ETAG, True, False),
        (f'"x", {ETAG}', True, False),
        (f"W/{ETAG}", True, True),
        ("*", True, False),
        ('"x"', False, True),
        ("ab", False, True),
        ('"x,y"', False, True),
    ],
)
def test_conditions_compare_tags(value: str, known: bool, another: bool) -> None:
    """`If-None-Match` weakly, `If-Match` strongly."""
    assert is_known(Headers({"if-none-match": value}), ETAG) is known
    assert is_another(Headers({"if-match": value}), ETAG) is another
    assert not is_known(Headers(), ETAG)
    assert not is_another(Headers(), ETAG)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("router.bin", 'attachment; filename="router.bin"'),
        ('a"b\\c', "attachment; filename=\"a_b_c\"; filename*=UTF-8''a%22b%5Cc"),
        ("blå\r\nx: y", "attachment; filename=\"bl___x: y\"; filename*=UTF-8''bl%C3%A5%0D%0Ax%3A%20y"),
    ],
)
def test_a_name_cannot_leave_its_header(name: str, header: str) -> None:
    """Quotes, line ends and other letters are written so that old and new browsers save under the name."""
    assert disposition(name) == header
