"""The request of an attempt: its address as it was given, and which secret signs while two overlap."""

import jwt
import msgspec
import pytest
from test_queue import target
from yarl import URL

from workers.dispatcher.request import ISSUED_BEFORE_S, REFUSED_RUN, Requests, as_given

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://a.example:443/triggers?sig=a%2Fb%3Ac~%7E", "a.example:443", "/triggers?sig=a%2Fb%3Ac~%7E"),
        ("https://A.Example/%2f/x/../y//", "A.Example", "/%2f/x/../y//"),
        ("https://a.example", "a.example", "/"),
        ("https://a.example?code=x+y&code=%20", "a.example", "/?code=x+y&code=%20"),
        ("https://a.example/ä|{}", "a.example", "/%C3%A4%7C%7B%7D"),
        ("https://[2606:4700::1111]:8443/x", "[2606:4700::1111]:8443", "/x"),
        ("https://bücher.example/x", "xn--bcher-kva.example", "/x"),
    ],
)
def test_a_url_is_requested_as_it_was_given(url: str, host: str, path: str) -> None:
    """Byte for byte, where those can be sent at all; a name in another script by its ASCII form."""
    assert as_given(URL(url), url) == (host, path)


def signed_with(requests: Requests, event_id: str) -> str:
    """Which secret signed an attempt."""
    head = requests.make(event_id, b"{}", None).decode()
    token = head.partition("X-Dt-Signature: ")[2].partition("\r\n")[0]
    for secret in ("new" * 12, "old" * 12):
        try:
            claims = jwt.decode(token, secret, algorithms=["HS256"], options={"verify_iat": False, "verify_exp": False})
        except jwt.InvalidSignatureError:
            continue
        assert claims["iat"] == NOW_S - ISSUED_BEFORE_S
        assert claims["exp"] == claims["iat"] + 3600
        return secret[:3]
    raise AssertionError(token)


def overlapping() -> Requests:
    return Requests(
        msgspec.structs.replace(
            target(),
            url=URL("https://a.example/"),
            secret="new" * 12,
            previous_secret="old" * 12,
            previous_secret_until_s=NOW_S + 60,
        ),
        "",
        lambda: NOW_S,
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 503, 302])
def test_an_event_that_was_not_acknowledged_is_tried_with_the_other_secret(status: int) -> None:
    """The one that helped is remembered, across changes of the connector that leave the secrets as they are."""
    requests = overlapping()
    assert signed_with(requests, "a") == "new"
    requests.heard("a", status)
    assert signed_with(requests, "b") == "new"
    requests.heard("b", None)
    assert signed_with(requests, "b") == "new"
    assert signed_with(requests, "a") == "old"
    requests.heard("a", 200)
    assert signed_with(requests, "c") == "old"
    after = Requests(msgspec.structs.replace(requests.target, revision=2), "", lambda: NOW_S, requests)
    assert signed_with(after, "d") == "old"
    after.heard("d", status)
    assert signed_with(after, "d") == "new"
    changed = msgspec.structs.replace(requests.target, previous_secret="older" * 8)
    assert signed_with(Requests(changed, "", lambda: NOW_S, requests), "e") == "new"


def test_an_event_that_is_refused_with_either_does_not_change_what_the_others_are_signed_with() -> None:
    """Only a run of refusals without a success does: an endpoint that is probed with new events alone learns it too."""
    requests = overlapping()
    for _ in range(REFUSED_RUN):
        assert signed_with(requests, "good") == "new"
        requests.heard("good", 200)
        signed_with(requests, "poison")
        requests.heard("poison", 500)
    assert signed_with(requests, "good") == "new"
    requests.heard("good", 200)
    for n in range(REFUSED_RUN):
        assert signed_with(requests, str(n)) == "new"
        requests.heard(str(n), 503)
    assert signed_with(requests, "next") == "old"
