"""The pages of one device."""

from gateway.portal.device import audit, commands, config, events, files, history, incidents, labels, settings, status
from gateway.portal.page import Page

PAGES: tuple[Page, ...] = (
    *status.PAGES,
    *history.PAGES,
    *events.PAGES,
    *commands.PAGES,
    *config.PAGES,
    *incidents.PAGES,
    *files.PAGES,
    *audit.PAGES,
    *settings.PAGES,
    *labels.PAGES,
)
