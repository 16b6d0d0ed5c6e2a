"""Lists by page number, read by key.

A caller asks for page 7; `OFFSET` would walk over the six before it and shift when rows come and go. So whoever reads
page 6 leaves the key of its last row in Redis, under a digest of caller, list, filters and page size, and page 7 begins
right behind it, however deep it lies. A reader that goes through the pages in order so sees every row once, also while
rows are added.

Where no key is remembered (a jump, a pause of more than `REMEMBERED_S`, Redis away or full) the page is read by
`OFFSET`, as long as that has no more than `OFFSET_MAX` rows to walk over. Deeper pages are refused: who asks for many
of them would keep Postgres busy with rows that nobody sees.

A page with large items ends early (`page_bytes`), so only the key says where the next one begins, and with Redis away
there is no such page.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.api.page_bytes import fitting
from gateway.refusals import DoesNotFit, away
from gateway.services import Services
from schemas import ids, keys, logs
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

REMEMBERED_S = 3600
PAGE_MAX = 1_000_000
OFFSET_MAX = 10_000
"""Rows that a page may lie behind those that are known; in the log they cost some 10 ms."""
TOO_DEEP = (
    "Page lies too deep to begin with: follow next_page from the first page on, or narrow the list by its filters"
)
SHORT_ROWS = 200
"""The first so many rows of a list are read beside other calls; what reaches further is a long read."""
PER_PAGE = 50
PER_PAGE_MAX = 100

T = TypeVar("T")
Boundary = list[str | int]
"""The key of a row: what the list is ordered by."""

PageNumber = Annotated[int, Meta(ge=1, le=PAGE_MAX)]


class PageQuery(Struct, kw_only=True):
    """Which page of a list, and how many items it has."""

    page: PageNumber = 1
    per_page: Annotated[int, Meta(ge=1, le=PER_PAGE_MAX)] = PER_PAGE

    def is_long(self) -> bool:
        """Whether reading it takes a turn among the long reads of its organization (see `gateway.tenant_shares`)."""
        return reaches_far(self.page, self.per_page)


class Page(Struct, Generic[T]):
    """One page of a list; `next_page` is null on the last."""

    items: list[T]
    has_next_page: bool
    next_page: int | None


class Part(Struct, Generic[T]):
    """What was read. Where `up_to` is given, the list was looked at only up to there, and may go on behind it."""

    rows: list[T]
    up_to: Boundary | None = None


class Window(Struct, frozen=True):
    """The rows to read: at most `limit` from behind the key `after`, or else from `offset` on."""

    after: Boundary | None
    offset: int
    limit: int


def reaches_far(page: int, per_page: int) -> bool:
    """Whether a page lies deep in its list, or is long itself."""
    return page * per_page > SHORT_ROWS


_boundary = msgspec.json.Decoder(Boundary)
_encode = msgspec.json.Encoder().encode


def _size(row: object) -> int:
    return len(_encode(row))


async def read_page(
    services: Services,
    scope: tuple[object, ...],
    page: int,
    per_page: int,
    read: Callable[[Window], Awaitable[list[T]]],
    boundary: Callable[[T], Boundary],
    size: Callable[[T], int] = _size,
) -> Page[T]:
    """One page of the list that `scope` (caller, route, filters) tells apart from all others; `size` is of a row as
    JSON."""

    async def read_all(window: Window) -> Part[T]:
        return Part(await read(window))

    return await read_part(services, scope, page, per_page, read_all, boundary, size)


async def read_part(
    services: Services,
    scope: tuple[object, ...],
    page: int,
    per_page: int,
    read: Callable[[Window], Awaitable[Part[T]]],
    boundary: Callable[[T], Boundary],
    size: Callable[[T], int] = _size,
) -> Page[T]:
    """A page of a list of which it looks at a bounded part only: it may hold few items, or none, and not be the last.

    A jump that would have to look further is refused, as one that lies too deep.
    """
    after = None if page == 1 else await _recall(services, _digest(scope, page, per_page))
    offset = _offset(page, per_page) if after is None else 0
    part = await read(Window(after, offset, per_page + 1))
    rows = part.rows
    fit = fitting(map(size, rows[:per_page]))
    ends_at = boundary(rows[fit - 1]) if len(rows) > fit else part.up_to
    if ends_at is None:
        return Page(rows[:fit], has_next_page=False, next_page=None)
    if offset and len(rows) <= fit:
        raise DoesNotFit(TOO_DEEP)
    remembered = await _remember(services, _digest(scope, page + 1, per_page), ends_at)
    if fit < per_page and not remembered:
        # By its number the next page would begin behind what did not fit on this one, or was not looked at.
        raise away("Redis")
    return Page(rows[:fit], has_next_page=True, next_page=page + 1)


def slice_of(query: PageQuery) -> tuple[int, int]:
    """Offset and limit, one more than a page has, for lists too short to need keys."""
    return _offset(query.page, query.per_page), query.per_page + 1


def cut(rows: list[T], page: int, per_page: int) -> Page[T]:
    """The page made of rows that were read with one more than `per_page` as limit."""
    more = len(rows) > per_page
    return Page(rows[:per_page], more, page + 1 if more else None)


def _offset(page: int, per_page: int) -> int:
    """The rows before a page. Raises DoesNotFit when they are too many to walk over."""
    offset = (page - 1) * per_page
    if offset > OFFSET_MAX:
        raise DoesNotFit(TOO_DEEP)
    return offset


def _digest(scope: tuple[object, ...], page: int, per_page: int) -> str:
    text = msgspec.json.encode((*scope, page, per_page))
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _key(services: Services, digest: str) -> str:
    return keys.page(ids.shard_of(digest.encode(), services.shards), digest)


async def _recall(services: Services, digest: str) -> Boundary | None:
    try:
        value = await services.redis.get(_key(services, digest))
        return None if value is None else _boundary.decode(value)
    except (RedisAway, msgspec.MsgspecError) as error:
        logs.event(log, logging.WARNING, "page_not_recalled", cause=str(error))
        return None


async def _remember(services: Services, digest: str, boundary: Boundary) -> bool:
    try:
        await services.redis.set(_key(services, digest), msgspec.json.encode(boundary), ex=REMEMBERED_S)
    except RedisAway as error:
        logs.event(log, logging.WARNING, "page_not_remembered", cause=str(error))
        return False
    return True
