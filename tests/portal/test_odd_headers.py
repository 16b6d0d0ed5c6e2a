"""A page that says what went wrong leads back to where one was: to a page of ours, whatever the headers say."""

import html
import re

import pytest
from edges import RunningEdge

NO_PAGES_OF_OURS = (
    "http://[",
    "//[",
    "http://elsewhere.example/devices",
    "http://{host}//elsewhere.example/devices",
    "http://{host}/\\elsewhere.example",
    "http://{host}@elsewhere.example/",
    "javascript:alert(1)",
    "\u00e9\u00ff",
)


@pytest.mark.parametrize("header", ["referer", "hx-current-url"])
async def test_the_way_back_is_a_page_of_ours(edge: RunningEdge, header: str) -> None:
    """Also on the way to signing in; what is no address at all is no error of ours."""
    host = f"127.0.0.1:{edge.port}"
    for came, back in (*((one, "/") for one in NO_PAGES_OF_OURS), ("http://{host}/docs?q=a", "/docs?q=a")):
        headers = {header: came.format(host=host), "accept": "text/html", "host": host}
        async with edge.http.get(f"{edge.url}/nothing", headers=headers) as answer:
            text = await answer.text()
        (led_to,) = re.findall(r'<a class="button" href="([^"]*)">Back</a>', text)
        assert (answer.status, html.unescape(led_to)) == (404, back), came
        part = headers | {"hx-request": "true"}
        async with edge.http.get(f"{edge.url}/devices", headers=part, allow_redirects=False) as answer:
            assert (answer.status, "elsewhere" in answer.headers["hx-redirect"]) == (401, False), came
