"""Where a form was sent from: only our own pages may send one, signed in or not.

Browsers say so by `Origin`, with every POST; where a page's policy hides that, by `Sec-Fetch-Site`. Our own is the
address that the browser called, as `Host` names it, or the public URL.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from gateway.refusals import NotPermitted
from gateway.services import Services

FOREIGN = "This form was not sent from a page of ours: open the page again, and send it from there"


def check(services: Services, request: Request) -> None:
    """Raises NotPermitted for a form of another site."""
    origin = request.headers.get("origin", "null")
    if origin == "null":
        if request.headers.get("sec-fetch-site") != "same-origin":
            raise NotPermitted(FOREIGN)
        return
    public = urlsplit(services.url)
    called = request.headers.get("host", "")
    ours = {f"{public.scheme}://{public.netloc}", f"{public.scheme}://{called}"}
    if origin.lower() not in {one.lower() for one in ours}:
        raise NotPermitted(FOREIGN)
