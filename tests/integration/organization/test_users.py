"""The people of an organization in its API. Contract: the line "users and groups"; what a group may is a role."""

from owners import Owner
from visitors import invited, person_of


async def test_people_are_listed_with_their_roles(acme: Owner, globex: Owner) -> None:
    """By address, once each; those who were invited, too; of one role where that is asked for; never another's."""
    await person_of(acme, "project.user", "organization.admin", "partner.admin", email="ada@example.com")
    await person_of(globex, "organization.admin", email="eve@example.com")
    await invited(acme, "project.user", "bob@example.com")
    ada, bob = (await acme.call("GET", "/users"))["items"]
    in_project = {"role": "project.user", "project_id": str(acme.project_id)}
    assert (ada["email"], ada["accepted"], ada["name"]) == ("ada@example.com", True, "")
    assert ada["roles"] == [{"role": "organization.admin", "project_id": None}, in_project]
    assert (bob["email"], bob["accepted"], bob["roles"]) == ("bob@example.com", False, [in_project])
    assert (await acme.call("GET", "/users", role="organization.admin"))["items"] == [ada]
    pages = [await acme.call("GET", "/users", per_page=1, page=page) for page in (1, 2)]
    assert [(page["items"], page["next_page"]) for page in pages] == [([ada], 2), ([bob], None)]
    [as_partner] = (await acme.partner("GET", "/users"))["items"]
    assert as_partner["roles"] == [{"role": "partner.admin", "project_id": None}]
    assert (await globex.partner("GET", "/users"))["items"] == []
    assert (await acme.call("GET", "/users", role="boss"))[0] == 422
