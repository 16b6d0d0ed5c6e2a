"""All pages of the portal, in the order in which their addresses are tried."""

from gateway.portal import docs, docs_reference, home, overview
from gateway.portal.page import Page

# Fixed words of a path come before places for ids.
PAGES: tuple[Page, ...] = (
    *home.PAGES,
    *overview.PAGES,
    *docs.PAGES,
    *docs_reference.PAGES,
)
