"""The demo tenant: made once, its keys kept in `demo.json`."""

import contextlib
import secrets
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from gateway.cli.demo_file import Demo, DemoAccount
from gateway.cli.secret_file import write_secret
from gateway.cli.simulated.vendor import TOKEN
from gateway.people.links import WAYS_IN
from gateway.refusals import Conflict, Refusal
from gateway.stores import models
from gateway.stores.accounts import credentials, members, service_accounts
from gateway.stores.accounts.service_accounts import email_of
from gateway.stores.change import Change
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import CommandField
from gateway.stores.connectors import authorization_links, cloud_connectors, data_connectors
from gateway.stores.devices import registration
from gateway.stores.incidents import rules
from gateway.stores.incidents.rules import IncidentRule
from gateway.stores.licenses import signing_keys
from gateway.stores.people import accounts, links
from gateway.stores.tenants import organizations, projects, spaces
from gateway.stores.whose import Whose
from schemas import ids, postgres
from schemas.cloud import Credentials
from schemas.incidents import PRIORITIES
from schemas.master_keys import MasterKeys
from schemas.postgres import Connection
from schemas.secrets import CONNECTOR_SECRETS, LICENSE_KEYS, VENDOR_CREDENTIALS
from schemas.settings import Keys, SettingsError

ORGANIZATION, PROJECT, SPACE, MODEL = "Demo", "Demo fleet", "Headquarters", "Demo device"
CONNECTOR, KEY = "Demo receiver", "demo"
PERSON, DEMO_ROLES = "you@demo.example", ("organization.admin", "partner.admin")
"""Who looks at it in the portal."""
CLOUD_CONNECTOR, PROVIDER = "Demo cloud", "simulated"
DEVICE_TYPE, EVENT_MAPPINGS = "temperature", {"temperature": "temperature"}
"""What the demo's devices are to clients of `/v2`."""
RULE, DISK_NEARLY_FULL, DISK_HYSTERESIS = "Disk is nearly full", 90, 10
RATE_LIMIT = 6_000
OFFLINE_THRESHOLD_S = 60


async def prepare(dsn: str, keys: Keys, path: Path, base_url: str, receiver_url: str, cloud_url: str) -> None:
    """Write `path` (mode 600) for this base URL, and make the tenant that it tells of if there is none yet.

    A file that is gone, or holds keys that do not work (any more), is made anew: the tenant stays, its keys change.
    The tenant's data connector sends to `receiver_url` from now on, its cloud connector imports from `cloud_url`.
    Beside the file lies `credentials.json` for clients of the /v2 API that read their credentials from there.
    """
    connection = await postgres.connect(dsn, "demo")
    try:
        async with connection.transaction():
            demo = await _kept(connection, path) or await _made(connection, keys)
            await data_connectors.redirect(connection, demo.data_connector_id, receiver_url)
            await _import_from(connection, demo, cloud_url)
            vault, vendor_id = keys.vault(LICENSE_KEYS), UUID(demo.organization_id)
            demo.license_key = (await signing_keys.signer(connection, vault, vendor_id, "rsa")).key.public_pem()
            demo.short_code = (await organizations.read(connection, UUID(demo.organization_id))).short_code
    finally:
        await connection.close()
    demo.base_url = base_url
    demo.v2_url, demo.emulator_url = f"{base_url}/v2", f"{base_url}/emulator/v2"
    demo.token_url = f"{base_url}/oauth2/token"
    write_secret(path, demo)
    account = demo.service_account
    credentials = {"keyId": account.key_id, "secret": account.secret, "email": account.email}
    credentials |= {"algorithm": "HS256", "tokenEndpoint": demo.token_url}
    write_secret(path.with_name("credentials.json"), {"serviceAccount": credentials})


async def sign_in_link(dsn: str, demo_file: Path, base_url: str) -> str:
    """A link that signs in, once, whoever started this demo: as administrator of the tenant, and as its vendor."""
    organization_id = UUID(Demo.read(demo_file).organization_id)
    connection = await postgres.connect(dsn, "demo")
    try:
        async with connection.transaction():
            person = await accounts.find_or_create(connection, PERSON)
            for role in DEMO_ROLES:
                with contextlib.suppress(Conflict):
                    await members.add(connection, organization_id, None, role, email=PERSON)
                member = await members.of_address(connection, organization_id, None, role, PERSON)
                await members.accept(connection, member.membership_id, person.id)
            token = await links.way_in(connection, person.id, datetime.now(UTC), at_once=True)
    finally:
        await connection.close()
    return f"{base_url}{WAYS_IN}/{token}"


async def _kept(connection: Connection, path: Path) -> Demo | None:
    """What the file tells, if its keys open this database."""
    try:
        demo = Demo.read(path)
        await registration.model_of_hardware_key(connection, demo.hardware_key)
    except (SettingsError, Refusal):
        return None
    return demo


async def _made(connection: Connection, keys: Keys) -> Demo:
    """The tenant, found by its names or created, with new keys."""
    organization = next((o for o in await organizations.listed(connection) if o.name == ORGANIZATION), None)
    organization = organization or await organizations.create(connection, ORGANIZATION)
    project = next((p for p in await projects.listed(connection, organization.id) if p.name == PROJECT), None)
    project = project or await projects.create(connection, organization.id, PROJECT)
    space = await spaces.find_or_create(connection, organization.id, project.id, [SPACE])
    model = next((m for m in await models.listed(connection, organization.id) if m.name == MODEL), None)
    model = model or await _model(connection, organization.id)
    for hardware_key in await credentials.hardware_keys(connection, model.id):
        if hardware_key.name == KEY:
            await credentials.revoke_hardware_key(connection, model.id, hardware_key.id)
    for api_key in await credentials.api_keys(connection, organization.id):
        if api_key.name == KEY:
            await credentials.revoke_api_key(connection, organization.id, api_key.id)
    hardware = await credentials.mint_and_store(connection, "hardware", owner_id=model.id, name=KEY)
    owner = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name=KEY)
    partner = await credentials.mint_and_store(connection, "partner", owner_id=organization.id, name=KEY)
    await _rule(connection, Whose(organization.id, as_vendor=False), project.id)
    connector_id, secret = await _connector(connection, project.id, keys)
    cloud_connector_id = await _cloud_connector(connection, organization.id, project.id, space.id, keys)
    return Demo(
        base_url="",
        hardware_key=hardware.text,
        model_id=str(model.id),
        organization_id=str(organization.id),
        organization_key=owner.text,
        partner_key=partner.text,
        project_id=str(project.id),
        space_id=str(space.id),
        data_connector_id=connector_id,
        signature_secret=secret,
        cloud_connector_id=cloud_connector_id,
        service_account=await _account(connection, organization.id, project.id, keys),
    )


async def _model(connection: Connection, organization_id: UUID) -> models.Model:
    model = await models.create(
        connection,
        organization_id,
        vendor="Demo",
        name=MODEL,
        rate_limit=RATE_LIMIT,
        offline_threshold_s=OFFLINE_THRESHOLD_S,
        device_type=DEVICE_TYPE,
        event_mappings=EVENT_MAPPINGS,
    )
    name = CommandField(name="name", type="string", required=True)
    for command, title, fields in (("reboot", "Reboot", []), ("ping", "Ping", []), ("set_name", "Set name", [name])):
        await definitions.add(connection, model.id, name=command, friendly_name=title, fields=fields)
    return model


async def _rule(connection: Connection, maker: Whose, project_id: UUID) -> None:
    """The project's rule that opens and closes incidents by what its devices tell of their disks."""
    if any(rule.title == RULE for rule in await rules.page(connection, maker, after=None, offset=0, limit=1_000)):
        return
    change = Change(connection, datetime.now(UTC))
    await rules.create(
        change,
        maker,
        IncidentRule(
            id=ids.new_id(),
            model_id=None,
            project_id=project_id,
            space_id=None,
            telemetry="disk",
            comparison="gt",
            value=DISK_NEARLY_FULL,
            duration_s=0,
            hysteresis=DISK_HYSTERESIS,
            priority=PRIORITIES.index("low") + 1,
            title=RULE,
            description="It is cleaned before long.",
            enabled=True,
            created_at=change.moment,
        ),
    )


async def _account(connection: Connection, organization_id: UUID, project_id: UUID, keys: Keys) -> DemoAccount:
    """The project's service account, an administrator; the secret of its key is derived, so it can be shown again."""
    found = next(
        (a for a in await service_accounts.listed(connection, project_id, "", 1_000) if a.display_name == KEY), None
    )
    if found is None:
        found = await service_accounts.create(connection, project_id, KEY, basic_auth_enabled=True)
        await members.add(connection, organization_id, None, "organization.admin", service_account_id=found.id)
    known = await service_accounts.keys(connection, found.id)
    key_id = (known[0] if known else await service_accounts.create_key(connection, found.id)).id
    master_keys = MasterKeys.fitting((await postgres.installation(connection)).generations, keys)
    secret = master_keys.secret(await service_accounts.generation(connection, key_id), key_id)
    assert secret is not None, "the stack's edges would not have started"
    return DemoAccount(key_id, secret, email_of(found.id, project_id))


async def _connector(connection: Connection, project_id: UUID, keys: Keys) -> tuple[str, str]:
    """The project's data connector and its signature secret, which is stored encrypted and can be shown again."""
    vault = keys.vault(CONNECTOR_SECRETS)
    for connector in await data_connectors.listed(connection, project_id, "", 1_000):
        if connector.display_name == CONNECTOR:
            return connector.id, vault.open(connector.secret, connector.id).decode()
    connector = data_connectors.new(project_id)
    secret = secrets.token_hex(16)
    connector.display_name = CONNECTOR
    connector.secret = vault.seal(secret.encode(), connector.id)
    await data_connectors.create(connection, connector)
    return connector.id, secret


async def _cloud_connector(
    connection: Connection, organization_id: UUID, project_id: UUID, space_id: UUID, keys: Keys
) -> str:
    """The connector that imports the simulated cloud, authorised."""
    for connector in await cloud_connectors.page(connection, organization_id, after=None, offset=0, limit=1_000):
        if connector.name == CLOUD_CONNECTOR:
            return connector.id
    connector_id = await cloud_connectors.create(
        connection,
        organization_id,
        project_id=project_id,
        space_id=space_id,
        provider=PROVIDER,
        name=CLOUD_CONNECTOR,
        settings={},
    )
    entered = msgspec.json.encode(Credentials(entered={"token": TOKEN}))
    sealed = keys.vault(VENDOR_CREDENTIALS).seal(entered, connector_id)
    await authorization_links.authorise(connection, connector_id, sealed)
    return connector_id


async def _import_from(connection: Connection, demo: Demo, cloud_url: str) -> None:
    """Where the simulated cloud is this time; it is synced at once, unless somebody has disabled or deleted it."""
    try:
        connector = await cloud_connectors.lock(connection, UUID(demo.organization_id), demo.cloud_connector_id)
    except Refusal:
        return
    await cloud_connectors.change(connection, connector.id, name=connector.name, settings={"url": cloud_url})
    await cloud_connectors.sync(connection, connector.id)
