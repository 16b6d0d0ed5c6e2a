"""A password is hard to guess, tried a few times only, and tells nobody who has an account here."""

import asyncio

import pytest
from argon2 import PasswordHasher
from edges import RunningEdge
from owners import Owner
from visitors import PASSWORD, invited, person_of, visiting, with_password

from gateway import passwords
from gateway.passwords import Passwords
from gateway.people import returning
from gateway.refusals import DoesNotFit, Unavailable

WRONG = {"email": "ada@example.com", "password": "not this one at all"}
ELSEWHERE = (
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "///evil.example",
    "http:evil.example",
    "javascript:alert(1)",
    "/a\\b",
    "/x\r\nset-cookie: a=b",
    "evil",
    "/" + "a" * returning.CHARACTERS_MAX,
)


async def test_who_has_an_account_is_not_told(edge: RunningEdge, acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answer, for the same work, whether the password is wrong, there is none, or there is nobody."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    await person_of(acme, "project.user", email="bob@example.com")
    verify, kept = Passwords._verify, []
    monkeypatch.setattr(Passwords, "_verify", lambda self, *given: kept.append(given[0]) or verify(self, *given))
    answers = []
    async with visiting(edge) as visitor:
        for email in ("ada@example.com", "bob@example.com", "no@example.com"):
            status, page = await visitor.send("/sign-in", WRONG | {"email": email})
            answers.append((status, page.replace(email, "")))
    assert answers[0][0] == 422
    assert answers[0] == answers[1] == answers[2]
    assert (len(kept), len({one.split("$")[3] for one in kept})) == (3, 1)
    assert not PasswordHasher(passwords.TIME_COST, passwords.MEMORY_KIB, passwords.PARALLELISM).check_needs_rehash(
        passwords._NOBODYS
    )


async def test_an_account_waits_after_wrong_passwords(edge: RunningEdge, acme: Owner) -> None:
    """Whether they come one after the other or all at once, also for the right one; others are let in."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    await with_password(acme, await person_of(acme, "project.user", email="bob@example.com"))
    limit = edge.services.settings.wrong_passwords_max
    async with visiting(edge) as visitor:
        for _ in range(limit + 1):
            assert (await visitor.send("/sign-in", {"email": "bob@example.com", "password": PASSWORD}))[0] == 303
        statuses = [
            status for status, _ in await asyncio.gather(*(visitor.send("/sign-in", WRONG) for _ in range(limit + 5)))
        ]
        assert (statuses.count(422), statuses.count(429)) == (limit, 5)
        for email in ("ada@example.com", "ADA@example.com"):
            assert (await visitor.send("/sign-in", {"email": email, "password": PASSWORD}))[0] == 429
        assert (await visitor.send("/sign-in", {"email": "bob@example.com", "password": PASSWORD}))[0] == 303


async def test_an_address_waits_after_wrong_passwords_for_many(edge: RunningEdge, acme: Owner) -> None:
    """However many accounts it tries; the next minute it may again, a few times, and then waits for longer."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    async with visiting(edge) as visitor:
        right = {"email": "ada@example.com", "password": PASSWORD}
        for window_s, times in ((60, 1), (3600, 4), (86_400, 16)):
            key = await edge.services.redis.keys("*sign-ins:127.0.0.1:*")
            if key:
                await edge.services.redis.delete(*key)
            assert (await visitor.send("/sign-in", right))[0] == 303
            await visitor.send("/sign-in", WRONG)
            (counter,) = await edge.services.redis.keys(f"*sign-ins:127.0.0.1:{window_s}")
            await edge.services.redis.set(counter, edge.services.settings.wrong_passwords_max * 5 * times)
            assert (await visitor.send("/sign-in", right))[0] == 429


@pytest.mark.parametrize(
    "password",
    ["password1234", "qwertyuiop12", "123456789012", "aaaaaaaaaaaaaaaa", "fleetgate2026", "ada@example.com1", "short"],
)
async def test_a_password_that_would_be_guessed_is_refused(password: str) -> None:
    """Common ones, rows of keys, repetitions, what is known of the person."""
    with pytest.raises(DoesNotFit, match=r"^Password "):
        await Passwords().digest(password, ["ada@example.com"])


async def test_a_password_is_kept_as_argon2id(edge: RunningEdge, acme: Owner) -> None:
    """Salted, and not at all as it is."""
    path = await invited(acme, "project.user")
    async with visiting(edge) as ada:
        assert (await ada.send(path, {"password": "password1234"}))[0] == 422
        assert (await ada.send(path, {"password": PASSWORD}))[0] == 303
    kept = await acme.pool.fetchval("SELECT password FROM people")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await Passwords().is_right(kept, PASSWORD)
    assert kept != await Passwords().digest(PASSWORD, [])


async def test_more_passwords_than_can_be_checked_are_turned_away() -> None:
    """A few at once, some waiting: nobody fills the memory of an edge with them."""
    checker = Passwords()
    checking = [asyncio.create_task(checker.is_right(None, "x")) for _ in range(passwords.WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await checker.is_right(None, "x")
    for task in checking[passwords.AT_ONCE + 1 :]:
        task.cancel()
    assert set(await asyncio.gather(*checking[: passwords.AT_ONCE])) == {False}
    await asyncio.gather(*checking, return_exceptions=True)
    assert await checker.is_right(None, "x") is False


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_signing_in_leads_to_no_other_site(address: str) -> None:
    """Whatever stands in the address of the sign-in page."""
    assert returning.page_of_ours(address) == "/"


async def test_signing_in_leads_back_to_a_page_of_ours(edge: RunningEdge, acme: Owner) -> None:
    """With all that its address says; also whoever is signed in already."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    back = "/overview?status=a%20b&x=//evil.example"
    async with visiting(edge) as ada:
        form = {"email": " ada@example.com ", "password": PASSWORD}
        assert await ada.send("/sign-in", form | {"next": "//evil.example"}) == (303, "/")
        assert await ada.send("/sign-in", form | {"next": back}) == (303, back)
