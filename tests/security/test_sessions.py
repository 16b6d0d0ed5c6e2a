"""Sessions of people are nobody else's: not planted, not read from the database, not used from another site."""

import pytest
from edges import RunningEdge
from owners import Owner
from visitors import invited, person_of, visiting, way_in

FOREIGN = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"origin": "null", "sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://127.0.0.1.evil.example"},
)


async def test_a_planted_session_is_not_the_one_that_is_signed_in(edge: RunningEdge, acme: Owner) -> None:
    """A browser that brings an id, known here or not, leaves with another; the one that it brought has ended."""
    person_id = await person_of(acme, "organization.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        planted = ada.cookies["fleetgate"].value
        await ada.send(await way_in(acme.pool, person_id))
        assert ada.cookies["fleetgate"].value != planted
    assert await acme.pool.fetchval("SELECT count(*) FROM sessions") == 1
    async with visiting(edge) as other:
        path = await way_in(acme.pool, person_id)
        status, _ = await other.send(path, cookie=f"fleetgate={planted}")
        assert (status, other.cookies["fleetgate"].value != planted) == (303, True)


async def test_who_reads_the_database_can_use_nothing_of_it(edge: RunningEdge, acme: Owner) -> None:
    """Neither a session nor a link is in it, only their digests."""
    person_id = await person_of(acme, "organization.admin")
    paths = [await invited(acme, "project.user", "bob@example.com"), await way_in(acme.pool, person_id)]
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        secrets = [ada.cookies["fleetgate"].value, *(path.rpartition("/")[2] for path in paths)]
    rows = [*await acme.pool.fetch("SELECT * FROM sessions"), *await acme.pool.fetch("SELECT * FROM sign_in_links")]
    assert len(rows) == len(secrets) == 3
    stored = repr([tuple(row.values()) for row in rows])
    assert all(len(secret) >= 43 and secret not in stored for secret in secrets)
    # What a digest looks like is no id either.
    for row in rows:
        async with visiting(edge) as mallory:
            assert (await mallory.get("/sign-in/x", cookie=f"fleetgate={row['digest'].hex()}"))[0] == 404


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_another_site_sends_no_form(edge: RunningEdge, acme: Owner, headers: dict[str, str]) -> None:
    """Neither to sign somebody in, as itself perhaps, nor out."""
    person_id = await person_of(acme, "organization.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        for path in (
            await way_in(acme.pool, person_id),
            await invited(acme, "project.user", "bob@example.com"),
            "/sign-out",
        ):
            assert (await ada.send(path, **headers))[0] == 403
        assert await acme.pool.fetchval("SELECT count(*) FROM sessions") == 1
        assert await acme.pool.fetchval("SELECT count(*) FROM sign_in_links") == 2


async def test_a_browser_that_hides_the_origin_may_say_that_it_is_ours(edge: RunningEdge, acme: Owner) -> None:
    """`Sec-Fetch-Site` no page can set."""
    person_id = await person_of(acme, "organization.admin")
    headers = {"origin": "null", "sec-fetch-site": "same-origin"}
    async with visiting(edge) as ada:
        assert (await ada.send(await way_in(acme.pool, person_id), **headers))[0] == 303
