"""Settings: frozen structs read once at start from ``FLEETGATE_*`` variables.

A process reads only its own struct, but every variable must be one that *some* process knows: a misspelt name is
an error, never silently ignored. There is no default for a secret. `schemas.environment` reads them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.bounds import STATE_BYTES, STATE_KEYS
from schemas.secrets import Vault
from schemas.sentences import matching

PREFIX = "FLEETGATE_"

_GROUP_ROLE = (
    "[^,]+=(project\\.(user|developer|admin)|organization\\.admin|partner\\.(user|admin))@"
    "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
_ROLE = "flusher|dispatcher|importer|rollouts|upkeep|archiver"
_Port = Annotated[str, matching(r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$", "must be host:port, such as 127.0.0.1:8080")]
_Secret = Annotated[str, matching(r"^[0-9a-f]{64}$", "must be 64 hex digits in lower case")]
_Ratio = Annotated[float, Meta(gt=0, le=1)]
_Seconds = Annotated[float, Meta(gt=0, le=86400)]
_Count = Annotated[int, Meta(ge=1)]
_Days = Annotated[int, Meta(ge=1, le=3650)]
Dsn = Annotated[
    str,
    matching(
        "^postgres(ql)?://",
        "must begin with postgresql://",
        description="PostgreSQL connection string (secret: may hold a password).",
    ),
]
RedisUrl = Annotated[
    str,
    matching(
        r"^(rediss?(\+cluster)?|unix)://",
        "must begin with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://",
        description="Redis or Valkey URL: redis://, rediss://, unix://; "
        "redis+cluster:// or rediss+cluster:// for a cluster (secret: may hold a password).",
    ),
]
RedisCa = Annotated[
    str,
    Meta(description="PEM file with the authorities that may vouch for a rediss:// server; default: the system's."),
]
Bind = Annotated[_Port, Meta(description="host:port to listen on.")]
Certificate = Annotated[str, Meta(description="PEM file with the certificate chain; turns TLS on.")]
PublicUrl = Annotated[
    str,
    matching(
        "^(https?://.*[^/])?$",
        "must begin with http:// or https:// and not end with a slash",
        description="Base URL that devices, people and receivers of webhooks are told; default: http://BIND.",
    ),
]
MasterKey = Annotated[
    _Secret, Meta(description="64 hex digits; every device's access key is derived from it (secret).")
]

MoreMasterKeys = Annotated[
    str,
    matching(
        "^([0-9a-f]{64}(,[0-9a-f]{64})*)?$",
        "must be keys of 64 hex digits in lower case, separated by commas",
        description="Further master keys (secret), comma-separated: those of other generations that are in use, and "
        "the next one (see docs/security.md).",
    ),
]


def url_of(public_url: str, bind: str, tls_certificate: str) -> str:
    """Where a gateway with these settings is called."""
    return public_url or f"{'https' if tls_certificate else 'http'}://{bind}"


class SettingsError(Exception):
    """A setting is missing, unknown or malformed; the text says which one and what to change."""


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """What keys and secrets are derived from and sealed with."""

    master_key: MasterKey
    master_keys_more: MoreMasterKeys = ""
    secrets_key: Annotated[
        str,
        matching(
            "^([0-9a-f]{64})?$",
            "must be 64 hex digits in lower case, or empty",
            description="64 hex digits that encrypt vendors' credentials and the secrets of webhooks (secret); "
            "default: the master key.",
        ),
    ] = ""
    secrets_key_previous: Annotated[
        str,
        matching(
            "^([0-9a-f]{64})?$",
            "must be 64 hex digits in lower case, or empty",
            description="The one before (secret), until `fleetgate admin secrets rotate` has run.",
        ),
    ] = ""

    @property
    def master_keys(self) -> tuple[str, ...]:
        """All master keys, in no order that means anything."""
        return tuple(dict.fromkeys((self.master_key, *filter(None, self.master_keys_more.split(",")))))

    def vault(self, purpose: str) -> Vault:
        """What seals the secrets of one purpose."""
        return Vault(self.secrets_key or self.master_key, purpose, self.secrets_key_previous, *self.master_keys)


class FileStore(Keys, frozen=True, kw_only=True):
    """Where the bytes of files and dumps lie."""

    file_store: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where the bytes of files and dumps lie: a folder, the same one for all processes, or "
            "s3://BUCKET/PREFIX (with fleetgate[s3]).",
        ),
    ] = ".fleetgate/files"
    file_store_endpoint: Annotated[
        str,
        matching(
            "^(https?://.*)?$",
            "must begin with http:// or https://",
            description="URL of an S3-compatible service; default: that of AWS.",
        ),
    ] = ""
    file_store_region: Annotated[str, Meta(description="Region of the bucket.")] = "us-east-1"
    file_store_key_id: Annotated[
        str, Meta(description="Access key of the bucket; default: what AWS_… variables or the machine's role say.")
    ] = ""
    file_store_secret: Annotated[str, Meta(description="Its secret (secret).")] = ""


class Stores(FileStore, frozen=True, kw_only=True):
    """Where the data live; every process needs all of them."""

    postgres_dsn: Dsn
    redis_url: RedisUrl
    redis_ca: RedisCa = ""
    postgres_pool: Annotated[int, Meta(ge=2, le=200, description="Most Postgres connections of one process.")] = 10
    log_level: Annotated[
        str,
        matching(
            "^(debug|info|warning|error)$", "must be debug, info, warning or error", description="Least level logged."
        ),
    ] = "info"


class Shared(Stores, frozen=True, kw_only=True):
    """What edges and workers must agree on."""

    bind: Bind = "127.0.0.1:8080"
    tls_certificate: Certificate = ""
    public_url: PublicUrl = ""
    state_keys_max: Annotated[
        int,
        Meta(
            ge=STATE_KEYS.least,
            le=STATE_KEYS.most,
            description="Keys that the state of a device holds, where its model says nothing else.",
        ),
    ] = STATE_KEYS.default
    state_bytes_max: Annotated[
        int,
        Meta(
            ge=STATE_BYTES.least,
            le=STATE_BYTES.most,
            description="Bytes of JSON that the state of a device holds, where its model says nothing else.",
        ),
    ] = STATE_BYTES.default
    egress_allow: Annotated[
        str,
        Meta(description="Networks beside the internet that webhooks and imports may go to: CIDRs, comma-separated."),
    ] = ""
    egress_http: Annotated[bool, Meta(description="Whether webhooks and imports may go to http:// URLs too.")] = False
    manifests: Annotated[
        str, Meta(description="Folder with manifests of vendors' clouds, beside those that fleetgate comes with.")
    ] = ""

    @property
    def url(self) -> str:
        """The base URL that devices, receivers and people are told to call."""
        return url_of(self.public_url, self.bind, self.tls_certificate)


class EdgeSettings(Shared, frozen=True, kw_only=True):
    """Settings of an edge process."""

    tls_key: Annotated[str, Meta(description="PEM file with the certificate's private key.")] = ""
    metrics_token: Annotated[
        str,
        matching(
            r"^(\S{16,})?$",
            "must have at least 16 characters, none of them a space",
            description="Bearer token for /metrics (secret); without one nobody may read them.",
        ),
    ] = ""
    docs_public: Annotated[
        bool, Meta(description="Whether the developer centre, /docs, may be read by whoever is not signed in.")
    ] = False
    oidc_issuer: Annotated[
        str,
        matching(
            r"^(https?://[^\s?#]+)?$",
            "must begin with https:// (or http://) and have no query or fragment",
            description="OpenID Connect provider that people may sign in at: its issuer, as its discovery document "
            "has it (see docs/operators.md).",
        ),
    ] = ""
    oidc_name: Annotated[
        str, Meta(min_length=1, description="What the button to sign in there calls it: Sign in with …")
    ] = "your organization's account"
    oidc_client_id: Annotated[str, Meta(description="What the provider knows this installation as.")] = ""
    oidc_client_secret: Annotated[
        str, Meta(description="Its secret there (secret); without one it is a public client.")
    ] = ""
    oidc_scopes: Annotated[
        str,
        matching(
            r"^openid( \S+)*$",
            "must begin with openid, further ones after a space",
            description="What the provider is asked for; some give groups only by a scope of theirs.",
        ),
    ] = "openid email profile"
    oidc_domains: Annotated[
        str,
        matching(
            r"^([^\s,@]+(,[^\s,@]+)*)?$",
            "must be domains such as example.com, comma-separated",
            description="Domains of email addresses that may sign in there, comma-separated; default: any.",
        ),
    ] = ""
    oidc_groups_claim: Annotated[
        str, Meta(min_length=1, description="The claim of its ID tokens that holds a person's groups.")
    ] = "groups"
    oidc_roles: Annotated[
        str,
        matching(
            f"^({_GROUP_ROLE}(,{_GROUP_ROLE})*)?$",
            "must be GROUP=ROLE@ID, comma-separated, with roles such as project.user and ids of projects for roles of "
            "projects, else of organizations",
            description="Roles by group: GROUP=ROLE@ID, comma-separated, where ID is that of the project for "
            "project.user, project.developer and project.admin, else that of the organization.",
        ),
    ] = ""
    mail_server: Annotated[
        str,
        matching(
            r"^(smtps?://[^\s/?#]+)?$",
            "must be smtp:// or smtps://, USER:PASSWORD@ where the server wants them, and a host",
            description="Mail server that invitations made in the portal are sent by (secret: may hold a password): "
            "smtps://USER:PASSWORD@HOST, or smtp://… where encryption begins with STARTTLS.",
        ),
    ] = ""
    mail_from: Annotated[
        str,
        matching(
            r"^([^\s@<>,]+@[^\s@<>,]+)?$",
            "must be an email address",
            description="Address that they come from.",
        ),
    ] = ""
    keep_alive_s: Annotated[int, Meta(ge=1, le=3600, description="An idle connection is closed after this.")] = 75
    request_timeout_s: Annotated[_Seconds, Meta(description="A request must have arrived whole within this.")] = 20
    tls_handshake_timeout_s: Annotated[
        _Seconds,
        Meta(description="TLS must be agreed on within this; until then it counts as a connection."),
    ] = 10
    route_timeouts: Annotated[
        str,
        matching(
            r"^(/[^=,\s]*=[1-9]\d{0,4}(,/[^=,\s]*=[1-9]\d{0,4})*)?$",
            "must be PATH=SECONDS, comma-separated, with paths that begin with a slash",
            description="Other times for single routes, for uploads over slow networks: PATH=SECONDS, comma-separated, "
            "with `*` for one member of a path and `**` for all that follow.",
        ),
    ] = ""
    write_timeout_s: Annotated[
        _Seconds, Meta(description="A client must take at least 16 KiB of a longer answer within this.")
    ] = 20
    unread_bytes_max: Annotated[
        int,
        Meta(ge=2**20, description="Bytes of answers that clients have yet to take in one edge; then the slowest go."),
    ] = 128 * 1024 * 1024
    shutdown_timeout_s: Annotated[int, Meta(ge=1, le=300, description="Open requests get this long on SIGTERM.")] = 20
    connections_max: Annotated[_Count, Meta(description="Connections one edge process serves; more get 503.")] = 50_000
    account_calls_max: Annotated[
        int,
        Meta(
            ge=5,
            le=1_000_000,
            description="Calls that a service account may make in 5 s; beyond, they wait their turn, up to a second, "
            "and then get 429.",
        ),
    ] = 200
    redis_timeout_s: Annotated[_Seconds, Meta(description="A Redis round trip of the hot path may take this.")] = 5
    redis_replicas_min: Annotated[
        int,
        Meta(
            ge=0,
            le=8,
            description="Replicas of Redis that must have a message within a second before a device hears 2xx (WAIT); "
            "with 0 a fail-over of Redis can lose the last moments.",
        ),
    ] = 0
    pending_messages_max: Annotated[
        _Count, Meta(description="Messages waiting in one edge process for Redis; more get 503.")
    ] = 20_000
    api_key_calls_max: Annotated[
        int, Meta(ge=5, le=1_000_000, description="Calls that one API key may make in 5 s; beyond, as for accounts.")
    ] = 500
    organization_share: Annotated[
        _Ratio,
        Meta(
            description="Share of the edge's Postgres connections that calls of one organization may hold at once; "
            "others of it wait, and get 429 after 5 s."
        ),
    ] = 0.3
    streams_max: Annotated[_Count, Meta(description="Event streams open in one edge process; more get 503.")] = 1_000
    organization_streams_max: Annotated[
        _Count, Meta(description="Of those, streams of one organization's projects; more get 429.")
    ] = 200
    account_streams_max: Annotated[
        _Count, Meta(description="Of those, streams of one service account; more get 429.")
    ] = 50
    file_bytes_max: Annotated[
        int, Meta(ge=1, le=5 * 2**30, description="Most bytes of a file, firmware for instance.")
    ] = 2 * 2**30
    dump_bytes_max: Annotated[int, Meta(ge=1, le=2**30, description="Most bytes of a dump of a device.")] = 64 * 2**20
    dumps_max: Annotated[
        int, Meta(ge=1, le=1_000, description="Dumps that are kept of one device; of more the oldest go.")
    ] = 20
    uploads_max: Annotated[
        _Count, Meta(description="Files coming in at once in one edge process, and so many dumps; more get 503.")
    ] = 32
    downloads_max: Annotated[_Count, Meta(description="Files going out at once in one edge process; more get 503.")] = (
        200
    )
    wrong_claims_max: Annotated[
        _Count,
        Meta(
            description="Wrong claims in a minute of one organization, and from one address; then 429. "
            "In an hour 4 times as many, in a day 16 times."
        ),
    ] = 50
    wrong_passwords_max: Annotated[
        _Count,
        Meta(
            description="Wrong passwords in a minute for one person, and 5 times as many from one address; then 429. "
            "In an hour 4 times as many, in a day 16 times."
        ),
    ] = 10
    registrations_max: Annotated[
        _Count,
        Meta(description="Devices registered in a minute with one hardware key, and from one address; then 429."),
    ] = 1_200
    shed_memory_ratio: Annotated[
        _Ratio, Meta(description="Telemetry is shed when Redis uses more than this share of its maxmemory.")
    ] = 0.75
    shed_backlog_entries: Annotated[
        _Count, Meta(description="Telemetry is shed when a shard's stream holds more entries than this.")
    ] = 1_000_000


class WorkerSettings(Shared, frozen=True, kw_only=True):
    """Settings of a worker process."""

    worker_roles: Annotated[
        str,
        matching(
            f"^({_ROLE})(,({_ROLE}))*$",
            "must be flusher, dispatcher, importer, rollouts, upkeep, archiver, or several, comma-separated",
            description="What this worker does: flusher, dispatcher, importer, rollouts, upkeep, archiver, or several, "
            "comma-separated.",
        ),
    ] = "flusher,dispatcher,importer,rollouts,upkeep,archiver"
    retention_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="Days the event log is kept, in PostgreSQL or in files; older partitions are dropped, up to "
            "seven days later where a data connector still owes events of them.",
        ),
    ] = 31
    archive: Annotated[
        bool,
        Meta(
            description="Whether closed days of the event log move to Parquet files in the file store (with "
            "fleetgate[archive], see docs/history-files.md)."
        ),
    ] = False
    archive_hot_days: Annotated[
        int, Meta(ge=2, le=3650, description="Days, today included, that stay in PostgreSQL then.")
    ] = 2
    archive_share: Annotated[
        _Ratio,
        Meta(
            description="Share of its time that a worker writes closed days to files in; in the rest telemetry has the "
            "machine. 1: as fast as it can."
        ),
    ] = 0.1
    commands_days: Annotated[_Days, Meta(description="Days that commands are kept after their end.")] = 90
    incidents_days: Annotated[_Days, Meta(description="Days that incidents are kept after they were closed.")] = 365
    dumps_days: Annotated[_Days, Meta(description="Days that dumps of devices are kept.")] = 30
    audit_days: Annotated[_Days, Meta(description="Days that the audit log is kept.")] = 90
    tickets_days: Annotated[_Days, Meta(description="Days that tickets are kept after they were resolved.")] = 365
    rollouts_share: Annotated[
        _Ratio,
        Meta(
            description="Share of its time that a worker carries rollouts out in, and tells whole models of "
            "releases; in the rest telemetry has the machine. 1: as fast as it can."
        ),
    ] = 0.06
    rollouts_days: Annotated[
        _Days,
        Meta(description="Days that what each device did in a rollout is kept after its end; its counts stay."),
    ] = 365
    quarantine_days: Annotated[_Days, Meta(description="Days that messages which cannot be stored are kept.")] = 90
    deleted_devices_days: Annotated[
        _Days,
        Meta(description="Days after which nothing is kept of a deleted device but what turns its key away."),
    ] = 31
    flush_messages_max: Annotated[int, Meta(ge=1, le=100_000, description="Most messages in one transaction.")] = 5_000
    flush_interval_s: Annotated[
        float, Meta(ge=0, le=10, description="Least time between two transactions of a shard (batches grow with it).")
    ] = 0.05
    stream_keep_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds that messages stay in Redis after they were stored, to be stored again where Postgres "
            "is succeeded by a standby that lacks them: more than its greatest lag.",
        ),
    ] = 0
    stream_keep_bytes: Annotated[
        int, Meta(ge=0, le=2**40, description="Most bytes of each shard that are kept so.")
    ] = 8 * 1024 * 1024
    sweep_interval_s: Annotated[_Seconds, Meta(description="Time between two offline sweeps.")] = 30
    imports_max: Annotated[
        int, Meta(ge=1, le=100, description="Lists and readings of vendors' clouds read at once in one process.")
    ] = 8
    organization_imports_max: Annotated[
        int, Meta(ge=1, le=100, description="Of those, ones of one organization's connectors; others wait.")
    ] = 2
    delivery_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="A receiver of webhooks must have answered within this.")
    ] = 10
    deliveries_max: Annotated[
        int, Meta(ge=64, le=20_000, description="Most webhook requests under way in one process.")
    ] = 2_000
    connector_deliveries_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Most webhook requests under way to one data connector; no more are repeated after a crash.",
        ),
    ] = 64
    connector_waiting_max: Annotated[
        int,
        Meta(
            ge=1_000,
            le=10_000_000,
            description="Most events that wait to be sent again to one data connector; beyond that those that failed "
            "most often are dropped, and counted so.",
        ),
    ] = 100_000

    @property
    def roles(self) -> str:
        """What it does, without what there is nothing to do for."""
        roles = [role for role in self.worker_roles.split(",") if self.archive or role != "archiver"]
        return ",".join(roles) or self.worker_roles
