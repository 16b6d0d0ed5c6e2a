"""Whose lists are read when there are more than can be read at once."""

from imports import Imports
from owners import owner

from schemas import ids
from workers.importer import leases


async def test_slow_vendors_of_one_organization_hold_up_nobody_elses_lists(imports: Imports) -> None:
    """It has its share of the runs, however many of its connectors are due and for however long."""
    acme = imports.acme
    hoarded = [await imports.connector() for _ in range(5)]
    imports.acme = await owner(imports.edge, "Globex")
    theirs = [await imports.connector() for _ in range(2)]
    await imports.pool.execute(
        "UPDATE cloud_connectors SET inventory_at = now() - interval '1 day' WHERE id = ANY($1)", hoarded
    )
    taken = [found.id for found in await leases.claim(imports.pool, imports.holder, 4, 2)]
    assert len(set(taken) & set(hoarded)) == 2
    assert set(taken) >= set(theirs)
    assert await leases.claim(imports.pool, ids.new_id(), 4, 2) == []  # by another worker neither
    imports.acme = acme
    for connector in hoarded:
        await imports.pool.execute("INSERT INTO cloud_runs (connector_id, kind) VALUES ($1, 'preview')", connector)
    assert await leases.claim_previews(imports.pool, imports.holder, 4, 2) == []
    await imports.pool.execute("UPDATE cloud_connectors SET lease_until = NULL")
    previews = await leases.claim_previews(imports.pool, imports.holder, 4, 2)
    assert len(previews) == 2
    assert all(found.id in hoarded for _, found in previews)


async def test_organizations_take_turns(imports: Imports) -> None:
    """The first of each comes before the second of any, whoever waited longest."""
    many = [await imports.connector() for _ in range(3)]
    await imports.pool.execute("UPDATE cloud_connectors SET inventory_at = now() - interval '1 day'")
    imports.acme = await owner(imports.edge, "Globex")
    one = await imports.connector()
    taken = [found.id for found in await leases.claim(imports.pool, imports.holder, 2, 3)]
    assert one in taken
    assert len(set(taken) & set(many)) == 1
