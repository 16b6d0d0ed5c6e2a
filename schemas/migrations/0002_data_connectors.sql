-- Data connectors (webhooks out) and the accounts of the /v2 API.

-- Devices as the /v2 API shows them ---------------------------------------------------------------------------

ALTER TABLE device_models
    ADD COLUMN device_type    text NOT NULL DEFAULT 'generic' CHECK (length(device_type) BETWEEN 1 AND 64),
    ADD COLUMN product_number text NOT NULL DEFAULT '' CHECK (length(product_number) <= 64),
    ADD COLUMN event_mappings json NOT NULL DEFAULT '{}';
COMMENT ON COLUMN device_models.event_mappings IS 'Telemetry key → event type: such a value becomes an event of that type beside the telemetry event.';

ALTER TABLE devices
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN labels      json NOT NULL DEFAULT '{}';
COMMENT ON COLUMN devices.labels IS 'Label key → value. The labels `name` and `description` are columns of their own.';

ALTER TABLE events ADD COLUMN labels json;
COMMENT ON COLUMN events.labels IS 'Labels of the device, name and description among them, when the event was stored; null when it had none.';
CREATE INDEX events_of_project_log ON events (project_id, shard, seq);

CREATE TABLE device_reported (
    device_id uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    type      text NOT NULL,
    ts        timestamptz NOT NULL,
    shard     smallint NOT NULL,
    seq       bigint NOT NULL,
    stored_at timestamptz NOT NULL,
    data      json NOT NULL,
    PRIMARY KEY (device_id, type)
);
COMMENT ON TABLE device_reported IS 'Newest typed event of each device and type (not telemetry, not life-cycle events). Written by the flusher of the shard.';

-- Accounts ----------------------------------------------------------------------------------------------------

CREATE TABLE service_accounts (
    id                 text PRIMARY KEY CHECK (length(id) = 20),
    project_id         uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    display_name       text NOT NULL DEFAULT '' CHECK (length(display_name) <= 255),
    basic_auth_enabled boolean NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON service_accounts (project_id);

CREATE TABLE service_account_keys (
    id                 text PRIMARY KEY CHECK (length(id) = 20),
    service_account_id text NOT NULL REFERENCES service_accounts ON DELETE CASCADE,
    created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON service_account_keys (service_account_id);
COMMENT ON TABLE service_account_keys IS 'The secret of a key is derived from the master key and the key''s id; it is stored nowhere.';

CREATE TABLE memberships (
    id                 text PRIMARY KEY CHECK (length(id) = 20),
    organization_id    uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    project_id         uuid REFERENCES projects ON DELETE CASCADE,
    role               text NOT NULL CHECK (role IN ('project.user', 'project.developer', 'project.admin', 'organization.admin')),
    service_account_id text REFERENCES service_accounts ON DELETE CASCADE,
    email              text CHECK (length(email) BETWEEN 3 AND 255),
    created_at         timestamptz NOT NULL DEFAULT now(),
    CHECK ((project_id IS NULL) = (role = 'organization.admin')),
    CHECK ((service_account_id IS NULL) <> (email IS NULL)),
    UNIQUE NULLS NOT DISTINCT (organization_id, project_id, service_account_id, email)
);
CREATE INDEX ON memberships (service_account_id);
CREATE INDEX ON memberships (project_id);
COMMENT ON TABLE memberships IS 'Who has which role where: a service account, or a person who was invited by email.';

-- Data connectors ---------------------------------------------------------------------------------------------

CREATE TABLE data_connectors (
    id                       text PRIMARY KEY CHECK (length(id) = 20),
    project_id               uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    display_name             text NOT NULL DEFAULT '' CHECK (length(display_name) <= 255),
    status                   text NOT NULL CHECK (status IN ('ACTIVE', 'USER_DISABLED', 'SYSTEM_DISABLED')),
    event_types              text[] NOT NULL DEFAULT '{}',
    labels                   text[] NOT NULL DEFAULT '{}',
    url                      text NOT NULL CHECK (length(url) <= 2048),
    headers                  bytea NOT NULL DEFAULT '',
    secret                   bytea NOT NULL DEFAULT '',
    previous_secret          bytea NOT NULL DEFAULT '',
    previous_secret_until    timestamptz,
    asymmetric_signature     boolean NOT NULL DEFAULT false,
    standard_webhooks        boolean NOT NULL DEFAULT false,
    retry_window_s           integer NOT NULL DEFAULT 43200 CHECK (retry_window_s BETWEEN 60 AND 604800),
    revision                 bigint NOT NULL DEFAULT 1,
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),

    failing_since            timestamptz,
    failures_in_a_row        integer NOT NULL DEFAULT 0,
    last_attempt_at          timestamptz,
    last_success_at          timestamptz,
    warned_days              smallint NOT NULL DEFAULT 0,

    accepted                 bigint NOT NULL DEFAULT 0,
    delivered                bigint NOT NULL DEFAULT 0,
    expired                  bigint NOT NULL DEFAULT 0,
    dropped                  bigint NOT NULL DEFAULT 0,
    superseded               bigint NOT NULL DEFAULT 0
);
CREATE INDEX ON data_connectors (project_id);
COMMENT ON COLUMN data_connectors.event_types IS 'Event types that are sent; empty means all.';
COMMENT ON COLUMN data_connectors.headers IS 'Custom headers as JSON, encrypted; empty means none. Secrets likewise.';
COMMENT ON COLUMN data_connectors.failing_since IS 'First failure since the last success: the clock of automatic disabling.';
COMMENT ON COLUMN data_connectors.accepted IS 'Events taken over from the log; accepted = delivered + waiting + expired + dropped + superseded.';

CREATE TABLE connector_positions (
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    shard        smallint NOT NULL,
    seq          bigint NOT NULL,
    stored_at    timestamptz NOT NULL,
    PRIMARY KEY (connector_id, shard)
);
COMMENT ON TABLE connector_positions IS 'Where a connector is in the log: all before `seq` is taken over. `stored_at` spares older partitions.';

CREATE TABLE waiting_deliveries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    shard        smallint NOT NULL,
    seq          bigint NOT NULL,
    stored_at    timestamptz NOT NULL,
    cause        text NOT NULL CHECK (cause IN ('failed', 'in_flight', 'replay', 'sync')),
    attempts     integer NOT NULL DEFAULT 0,
    owed_since   timestamptz NOT NULL,
    next_at      timestamptz NOT NULL
);
CREATE INDEX waiting_deliveries_due ON waiting_deliveries (connector_id, next_at);
COMMENT ON TABLE waiting_deliveries IS 'Events set apart for one connector: failed and to be tried again, in flight past their window, replayed, synchronized.';

CREATE TABLE delivery_attempts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    event_id     text NOT NULL,
    attempt      integer NOT NULL,
    status       smallint,
    cause        text,
    latency_ms   integer NOT NULL,
    answer       text NOT NULL DEFAULT ''
);
CREATE INDEX ON delivery_attempts (connector_id, id);
COMMENT ON TABLE delivery_attempts IS 'The last attempts of each connector; `cause` (dns, connect, tls, timeout, egress, status) where it failed.';

CREATE TABLE delivery_minutes (
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    minute       timestamptz NOT NULL,
    successes    integer NOT NULL DEFAULT 0,
    errors       integer NOT NULL DEFAULT 0,
    latencies    integer[] NOT NULL,
    PRIMARY KEY (connector_id, minute)
);
COMMENT ON COLUMN delivery_minutes.latencies IS 'Attempts by latency bucket (bounds in the module that writes them).';

CREATE TABLE signing_keys (
    id         text PRIMARY KEY CHECK (length(id) = 20),
    private    bytea NOT NULL,
    public     json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON TABLE signing_keys IS 'ES256 keys of asymmetric signatures; the newest signs, those retired lately still verify.';
