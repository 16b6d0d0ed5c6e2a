"""A Cloud ID says whose device it is: no vendor's short code begins with another's."""

import asyncio

import pytest

from gateway.refusals import DoesNotFit
from gateway.stores.tenants import organizations
from gateway.stores.tenants.organizations import SHORT_CODE_TAKEN
from schemas.postgres import Pool


@pytest.mark.parametrize("code", ["1F55", "1F55ME", "1f55Me", "1F", "1F55MEX"])
async def test_a_code_that_begins_like_another_is_refused(pool: Pool, code: str) -> None:
    """Longer, shorter or the same, in any case."""
    async with pool.acquire() as connection:
        await organizations.create(connection, "First", "1F55ME")
        with pytest.raises(DoesNotFit, match=SHORT_CODE_TAKEN):
            await organizations.create(connection, "Second", code)
        assert (await organizations.create(connection, "Third", "2F55ME")).short_code == "2F55ME"


async def test_of_two_codes_that_are_chosen_at_once_one_is_refused(pool: Pool) -> None:
    """Two organizations that are made at the same moment do not get codes that begin alike."""

    async def create(code: str) -> str | None:
        async with pool.acquire() as connection:
            try:
                return (await organizations.create(connection, code, code)).short_code
            except DoesNotFit:
                return None

    codes = ["QQ", "QQA", "QQAB", "QQABC", "QQABCD", "QQABCDE"]
    made = await asyncio.gather(*map(create, codes))
    assert len([code for code in made if code is not None]) == 1


async def test_a_random_code_avoids_those_that_are_given(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is given none gets one that fits."""
    drawn = iter("ABCDEF" + "BCDEFG")
    monkeypatch.setattr(organizations.secrets, "choice", lambda _: next(drawn))
    async with pool.acquire() as connection:
        await organizations.create(connection, "First", "AB")
        assert (await organizations.create(connection, "Second")).short_code == "BCDEFG"
