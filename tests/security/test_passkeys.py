"""A passkey lets in whoever holds it, once for each challenge, in the browser that asked, on our pages; nobody else."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from authenticators import Authenticator
from edges import RunningEdge
from owners import Owner
from visitors import PASSWORD, Visitor, person_of, visiting, way_in, with_password

ADD, SIGN_IN = "/account/passkeys", "/sign-in/passkey"


@pytest.fixture(autouse=True)
def _named(edge: RunningEdge) -> None:
    """Browsers have no passkeys for bare addresses."""
    edge.url = f"http://localhost:{edge.port}"
    msgspec.structs.force_setattr(edge.services.settings, "public_url", edge.url)


async def token_of(visitor: Visitor) -> dict[str, str]:
    """The token that the forms of a session bring along."""
    _, page = await visitor.get("/account")
    return {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}


async def challenge(visitor: Visitor, path: str, form: dict[str, str] | None = None) -> Any:
    """What the page's script is told."""
    status, text = await visitor.send(f"{path}/challenge", form or {})
    assert status == 200, text
    return json.loads(text)


async def with_passkey(edge: RunningEdge, acme: Owner, visitor: Visitor, email: str = "ada@example.com") -> Any:
    """A person who came by a link and has added a passkey; answers the device that has it."""
    await visitor.send(await way_in(acme.pool, await person_of(acme, "organization.admin", email=email)))
    device, token = Authenticator(edge.url), await token_of(visitor)
    options = await challenge(visitor, ADD, {"name": "Phone", **token})
    added = {"name": "Phone", "credential": device.made(options), **token}
    assert await visitor.send(ADD, added) == (303, "/account")
    return device


async def test_a_passkey_signs_in_and_is_listed_until_it_is_removed(edge: RunningEdge, acme: Owner) -> None:
    """And each of these is written down, without what was answered."""
    async with visiting(edge) as ada, visiting(edge) as anew:
        device = await with_passkey(edge, acme, ada)
        answer = device.answer(await challenge(anew, SIGN_IN))
        assert await anew.send(SIGN_IN, {"credential": answer, "next": "/account"}) == (303, "/account")
        assert "Phone" in (await anew.get("/account"))[1]
        passkey_id = await acme.pool.fetchval("SELECT id FROM passkeys WHERE used_at IS NOT NULL AND sign_count = 2")
        assert (await anew.send(f"{ADD}/{passkey_id}/remove", await token_of(anew)))[0] == 303
        answer = device.answer(await challenge(ada, SIGN_IN))
        assert (await ada.send(SIGN_IN, {"credential": answer}))[0] == 422
    rows = await acme.pool.fetch("SELECT action, given::text FROM audit_log ORDER BY at, id")
    assert [row["action"] for row in rows] == ["sign_in_by_link", "add_passkey", "sign_in_by_passkey", "remove_passkey"]
    assert "clientDataJSON" not in str(rows)


async def test_an_answer_is_good_once_and_in_its_browser(edge: RunningEdge, acme: Owner) -> None:
    """Not replayed, with the same challenge or another one; not from another browser; not that of another purpose."""
    async with visiting(edge) as ada, visiting(edge) as other:
        device = await with_passkey(edge, acme, ada)
        answer = device.answer(await challenge(ada, SIGN_IN))
        assert (await other.send(SIGN_IN, {"credential": answer}))[0] == 422
        await challenge(other, SIGN_IN)
        assert (await other.send(SIGN_IN, {"credential": answer}))[0] == 422
        assert (await ada.send(SIGN_IN, {"credential": answer}))[0] == 303
        assert (await ada.send(SIGN_IN, {"credential": answer}))[0] == 422
        assert (await other.send(SIGN_IN, {"credential": answer}))[0] == 422


async def test_a_challenge_is_spent_by_a_wrong_answer_and_is_for_one_purpose(edge: RunningEdge, acme: Owner) -> None:
    """Whoever signs in cannot use what was asked to add a passkey."""
    async with visiting(edge) as ada:
        device = await with_passkey(edge, acme, ada)
        options = await challenge(ada, SIGN_IN)
        assert (await ada.send(SIGN_IN, {"credential": Authenticator(edge.url).answer(options)}))[0] == 422
        assert (await ada.send(SIGN_IN, {"credential": device.answer(options)}))[0] == 422
        options = await challenge(ada, ADD, {"name": "Another", **await token_of(ada)})
        assert (await ada.send(SIGN_IN, {"credential": device.answer(options)}))[0] == 422
        options = await challenge(ada, SIGN_IN)
        made = Authenticator(edge.url).made(options | {"user": {"id": ""}})
        assert (await ada.send(ADD, {"name": "A", "credential": made, **await token_of(ada)}))[0] == 422


async def test_what_was_signed_for_another_site_is_refused(edge: RunningEdge, acme: Owner) -> None:
    """By its origin and by its relying party, when it is made and when it is used; and no other site may send it."""
    async with visiting(edge) as ada:
        device = await with_passkey(edge, acme, ada)
        token = await token_of(ada)
        for name, value in (("origin", "https://evil.example"), ("origin", "http://localhost:1"), ("host", "evil")):
            ours = getattr(device, name)
            setattr(device, name, value)
            answer = device.answer(await challenge(ada, SIGN_IN))
            assert (await ada.send(SIGN_IN, {"credential": answer}))[0] == 422, value
            setattr(device, name, ours)
            another = Authenticator(edge.url)
            setattr(another, name, value)
            made = another.made(await challenge(ada, ADD, {"name": "A", **token}))
            assert (await ada.send(ADD, {"name": "A", "credential": made, **token}))[0] == 422, value
        answer = device.answer(await challenge(ada, SIGN_IN))
        assert (await ada.send(SIGN_IN, {"credential": answer}, origin="https://evil.example"))[0] == 403
        assert await acme.pool.fetchval("SELECT count(*) FROM passkeys") == 1


async def test_nobody_uses_or_removes_or_registers_anothers_passkey(edge: RunningEdge, acme: Owner) -> None:
    """Neither by the id of its credential, nor by who it says to be; the answers tell nothing."""
    async with visiting(edge) as ada, visiting(edge) as bob:
        of_ada = await with_passkey(edge, acme, ada)
        of_bob = await with_passkey(edge, acme, bob, "bob@example.com")
        token = await token_of(bob)
        ours, answers = (of_bob.credential_id, of_bob.user_handle), []
        nobodys = Authenticator(edge.url)
        for credential_id, user_handle in (
            (of_ada.credential_id, of_ada.user_handle),
            (of_ada.credential_id, of_bob.user_handle),
            (of_bob.credential_id, of_ada.user_handle),
            (nobodys.credential_id, nobodys.user_handle),
        ):
            of_bob.credential_id, of_bob.user_handle = credential_id, user_handle
            answers.append(await bob.send(SIGN_IN, {"credential": of_bob.answer(await challenge(bob, SIGN_IN))}))
        assert answers[0][0] == 422
        assert len(set(answers)) == 1
        of_bob.credential_id, of_bob.user_handle = of_ada.credential_id, ours[1]
        made = of_bob.made(await challenge(bob, ADD, {"name": "A", **token}))
        assert (await bob.send(ADD, {"name": "A", "credential": made, **token}))[0] == 409
        passkey_id = await acme.pool.fetchval("SELECT id FROM passkeys WHERE credential_id = $1", of_ada.credential_id)
        assert (await bob.send(f"{ADD}/{passkey_id}/remove", token))[0] == 404
        assert await acme.pool.fetchval("SELECT count(*) FROM passkeys") == 2


async def test_a_copy_of_a_passkey_is_noticed_by_its_counter(edge: RunningEdge, acme: Owner) -> None:
    """What counted less than was seen is refused; one that never counts is taken."""
    async with visiting(edge) as ada:
        device = await with_passkey(edge, acme, ada)
        for count, status in ((4, 303), (4, 422), (2, 422), (5, 303), (0, 422)):
            device.count = count - 1 if count else -1
            answer = device.answer(await challenge(ada, SIGN_IN))
            assert (await ada.send(SIGN_IN, {"credential": answer}))[0] == status, count
        await acme.pool.execute("UPDATE passkeys SET sign_count = 0")
        for _ in range(2):
            device.count = -1
            assert (await ada.send(SIGN_IN, {"credential": device.answer(await challenge(ada, SIGN_IN))}))[0] == 303


async def test_wrong_answers_are_counted_as_wrong_passwords_are(edge: RunningEdge, acme: Owner) -> None:
    """For the passkey; right ones are free. Challenges are counted for the address."""
    limit = edge.services.settings.wrong_passwords_max
    async with visiting(edge) as ada:
        device = await with_passkey(edge, acme, ada)
        for _ in range(limit + 1):
            assert (await ada.send(SIGN_IN, {"credential": device.answer(await challenge(ada, SIGN_IN))}))[0] == 303
        stale = device.answer(await challenge(ada, SIGN_IN) | {"challenge": "AAAA"})
        statuses = [(await ada.send(SIGN_IN, {"credential": stale}))[0] for _ in range(limit + 1)]
        assert (statuses.count(422), statuses[-1]) == (limit, 429)
        asked = [(await ada.send(f"{SIGN_IN}/challenge"))[0] for _ in range(limit * 5)]
        assert asked[-1] == 429


async def test_the_password_must_be_known_to_add_a_passkey(edge: RunningEdge, acme: Owner) -> None:
    """Also by whoever sits before somebody's open browser."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    async with visiting(edge) as ada:
        await ada.send("/sign-in", {"email": "ada@example.com", "password": PASSWORD})
        form = {"name": "Phone", **await token_of(ada)}
        for wrong in ({}, {"current_password": "another"}):
            status, page = await ada.send(f"{ADD}/challenge", form | wrong)
            assert (status, "Current password is not right" in page) == (422, True)
        await challenge(ada, ADD, form | {"current_password": PASSWORD})


def _broken(answer: str) -> list[str]:
    """An answer with each part missing, of another type, cut or filled with rubbish; and what is none at all."""
    whole = json.loads(answer)
    rubbish = ("", "!", "\x00", "AAAA", "é", 7, None, [], {}, "A" * 5000, urlsafe_b64encode(b"\xbf" * 90).decode())
    texts = ["", "{", "[]", "null", "[" * 5000, '{"a":' * 5000, "9" * 5000, "\ud83d", '"\\ud800"']
    for name in whole:
        texts += [json.dumps(whole | {name: value}) for value in rubbish]
    for name, old in whole["response"].items():
        cut = (old[:50], old[:-9], old[: len(old) // 2], old + "AAAA")
        for value in (*rubbish, *cut):
            texts.append(json.dumps(whole | {"response": whole["response"] | {name: value}}))
    return texts


async def test_what_no_passkey_answers_is_refused(edge: RunningEdge, acme: Owner) -> None:
    """Whatever it is: never an error of ours."""
    msgspec.structs.force_setattr(edge.services.settings, "wrong_passwords_max", 1_000_000)
    async with visiting(edge) as ada:
        device = await with_passkey(edge, acme, ada)
        for text in _broken(device.answer(await challenge(ada, SIGN_IN))):
            given = {"credential": text.encode("utf-8", "replace").decode()}
            await challenge(ada, SIGN_IN)
            status, page = await ada.send(SIGN_IN, given)
            assert status == 422, (text[:200], page[-500:])
        await ada.send(await way_in(acme.pool, await acme.pool.fetchval("SELECT id FROM people")))
        token = await token_of(ada)
        for text in _broken(Authenticator(edge.url).made(await challenge(ada, ADD, {"name": "A", **token}))):
            await challenge(ada, ADD, {"name": "A", **token})
            given = {"name": "A", "credential": text.encode("utf-8", "replace").decode(), **token}
            assert (await ada.send(ADD, given))[0] == 422, text[:200]
