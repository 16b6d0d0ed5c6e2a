"""All pages of the portal, in the order in which their addresses are tried."""

from gateway.portal import (
    access,
    account,
    audit,
    devices,
    devices_change,
    docs,
    docs_flows,
    docs_guides,
    docs_quickstart,
    docs_reference,
    docs_simulator,
    home,
    invitation,
    live,
    overview,
    people,
    sign_in,
)
from gateway.portal.page import Page

# Fixed words of a path come before places for ids.
PAGES: tuple[Page, ...] = (
    *sign_in.PAGES,
    *invitation.PAGES,
    *home.PAGES,
    *overview.PAGES,
    *live.PAGES,
    *docs.PAGES,
    *docs_flows.PAGES,
    *docs_guides.PAGES,
    *docs_quickstart.PAGES,
    *docs_reference.PAGES,
    *docs_simulator.PAGES,
    *people.PAGES,
    *access.PAGES,
    *audit.PAGES,
    *account.PAGES,
    *devices.PAGES,
    *devices_change.PAGES,
)
