"""Lists by page token: the id of the last item, so that a list may change while it is read."""

from typing import Annotated

from msgspec import Meta, Struct

PAGE_SIZE_MAX = 100


class PageQuery(Struct, kw_only=True):
    """Which part of a list. `page_token` is `nextPageToken` of the part before."""

    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*$")] = ""
