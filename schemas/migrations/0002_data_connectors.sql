-- Data connectors (webhooks out) and the accounts of the /v2 API.

-- Devices as the /v2 API shows them ---------------------------------------------------------------------------

ALTER TABLE device_models
    ADD COLUMN device_type    text NOT NULL DEFAULT 'generic' CHECK (length(device_type) BETWEEN 1 AND 64),
    ADD COLUMN product_number text NOT NULL DEFAULT '' CHECK (length(product_number) <= 64),
    ADD COLUMN event_mappings json NOT NULL DEFAULT '{}',
    ADD COLUMN emulated       boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX device_models_emulated ON device_models (organization_id, device_type) WHERE emulated;
COMMENT ON COLUMN device_models.event_mappings IS 'Telemetry key → event type, or member of one: such a value becomes an event of that type beside the telemetry event.';
COMMENT ON COLUMN device_models.emulated IS 'The model of an organization''s emulated devices of this type; made with the first of them.';

ALTER TABLE devices
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN labels      json NOT NULL DEFAULT '{}';
COMMENT ON COLUMN devices.labels IS 'Label key → value. The labels `name` and `description` are columns of their own.';

ALTER TABLE events ADD COLUMN labels json;
COMMENT ON COLUMN events.labels IS 'Labels of the device, name and description among them, when the event was stored; null when it had none.';
CREATE INDEX events_of_project_log ON events (project_id, shard, seq);

-- Events belong to projects; only telemetry is kept, for its vendor, of a device that nobody claimed.
ALTER TABLE event_outbox ALTER COLUMN project_id SET NOT NULL;

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

    starts                   integer NOT NULL DEFAULT 1,
    epoch                    bigint NOT NULL DEFAULT 0,
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
) WITH (fillfactor = 50);
CREATE INDEX ON data_connectors (project_id);
COMMENT ON COLUMN data_connectors.revision IS 'Grows with every change of what is sent where; by trigger.';
COMMENT ON COLUMN data_connectors.starts IS 'Grows when the connector is disabled and when it is enabled: a queue read before that is void.';
COMMENT ON COLUMN data_connectors.epoch IS 'Grows with every commit of the dispatcher that owns the connector, with every new owner, and when it is disabled or enabled: whoever commits with an older one has lost it.';
COMMENT ON COLUMN data_connectors.event_types IS 'Event types that are sent; empty means all.';
COMMENT ON COLUMN data_connectors.headers IS 'Custom headers as JSON, encrypted; empty means none. Secrets likewise.';
COMMENT ON COLUMN data_connectors.failing_since IS 'First failure since the last success: the clock of automatic disabling.';
COMMENT ON COLUMN data_connectors.accepted IS 'Events taken over from the log, replayed, synchronized; accepted = delivered + rows of waiting_deliveries + expired + dropped + superseded.';
COMMENT ON COLUMN data_connectors.warned_days IS 'Days of failing (1, 3) that its people have been warned of.';

CREATE TABLE connector_notices (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('failing_1_day', 'failing_3_days', 'system_disabled')),
    failing_since timestamptz NOT NULL
);
CREATE INDEX ON connector_notices (connector_id, id);
COMMENT ON TABLE connector_notices IS 'What people must know of a connector: it has been failing for a day, for three; it was disabled.';

CREATE TABLE connector_positions (
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    shard        smallint NOT NULL,
    seq          bigint NOT NULL,
    stored_at    timestamptz NOT NULL,
    PRIMARY KEY (connector_id, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE connector_positions IS 'Where a connector is in the log: `seq` is the next event to take over, none before it is still to come. `stored_at` spares older partitions.';

CREATE TABLE waiting_deliveries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    shard        smallint NOT NULL,
    seq          bigint NOT NULL,
    stored_at    timestamptz NOT NULL,
    cause        text NOT NULL CHECK (cause IN ('failed', 'in_flight', 'replay', 'sync', 'test')),
    attempts     integer NOT NULL DEFAULT 0,
    owed_since   timestamptz NOT NULL,
    next_at      timestamptz NOT NULL,
    device_id    uuid,
    body         json
) WITH (fillfactor = 70);
CREATE INDEX waiting_deliveries_due ON waiting_deliveries (connector_id, next_at);
CREATE INDEX waiting_deliveries_tests ON waiting_deliveries (connector_id) WHERE cause = 'test';
COMMENT ON TABLE waiting_deliveries IS 'Events set apart for one connector: failed and to be tried again, in flight past their window, replayed, synchronized, tests. Whoever adds some to an ACTIVE connector locks its row and raises `accepted` first, whoever removes some raises another counter, in the same transaction.';
COMMENT ON COLUMN waiting_deliveries.device_id IS 'Of a synchronized event: it is read from device_reported when the log has dropped it.';
COMMENT ON COLUMN waiting_deliveries.body IS 'Of a test event that is not in the log (seq 0): the whole body. Tests of a connector that is not ACTIVE are no part of its ledger.';

CREATE TABLE delivery_attempts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    at           timestamptz NOT NULL,
    event_id     text NOT NULL,
    attempt      integer NOT NULL,
    status       smallint,
    cause        text,
    latency_ms   integer NOT NULL,
    answer       text NOT NULL DEFAULT '',
    waiting_id   bigint
);
CREATE INDEX ON delivery_attempts (connector_id, id);
COMMENT ON TABLE delivery_attempts IS 'The last attempts of each connector: all failures, and of many successes in a second only some; `cause` (dns, connect, tls, timeout, egress, status, protocol) where it failed.';
COMMENT ON COLUMN delivery_attempts.waiting_id IS 'The row of waiting_deliveries that was tried: how the sender of a test event finds what became of it.';

CREATE TABLE delivery_minutes (
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    minute       timestamptz NOT NULL,
    successes    integer NOT NULL DEFAULT 0,
    errors       integer NOT NULL DEFAULT 0,
    latencies    integer[] NOT NULL,
    PRIMARY KEY (connector_id, minute)
);
COMMENT ON COLUMN delivery_minutes.latencies IS 'Attempts by latency bucket (bounds in schemas/deliveries.py).';

CREATE TABLE signing_keys (
    id         text PRIMARY KEY CHECK (length(id) = 20),
    private    bytea NOT NULL,
    public     json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON TABLE signing_keys IS 'ES256 keys of asymmetric signatures; the newest signs, those retired lately still verify.';

-- Queues follow their connector -------------------------------------------------------------------------------
--
-- A connector that becomes ACTIVE begins at the head of the log; one that ceases to be drops what it owes, and counts
-- it. Both move the epoch, so that a dispatcher with work under way has lost it. No writer of `status` can forget.

CREATE FUNCTION start_connector(connector text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO connector_positions (connector_id, shard, seq, stored_at)
    SELECT connector, shard, next_seq, now() - interval '1 day' FROM shards
    ON CONFLICT (connector_id, shard) DO UPDATE SET seq = excluded.seq, stored_at = excluded.stored_at
$$;

CREATE FUNCTION data_connectors_started() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM start_connector(NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER started AFTER INSERT ON data_connectors
    FOR EACH ROW WHEN (NEW.status = 'ACTIVE') EXECUTE FUNCTION data_connectors_started();

CREATE FUNCTION data_connectors_follow_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    waiting bigint;
    skipped bigint;
BEGIN
    NEW.revision := OLD.revision + 1;
    IF OLD.status = 'ACTIVE' AND NEW.status <> 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        WITH gone AS (DELETE FROM waiting_deliveries WHERE connector_id = OLD.id RETURNING 1)
        SELECT count(*) INTO waiting FROM gone;
        SELECT count(*) INTO skipped
          FROM connector_positions p
          JOIN shards s USING (shard)
          JOIN events e ON e.project_id = OLD.project_id AND e.shard = p.shard
                       AND e.seq >= p.seq AND e.seq < s.next_seq AND e.stored_at >= p.stored_at
         WHERE p.connector_id = OLD.id AND (OLD.event_types = '{}' OR e.type = ANY (OLD.event_types));
        PERFORM start_connector(OLD.id);
        NEW.accepted := OLD.accepted + skipped;
        NEW.dropped := OLD.dropped + skipped + waiting;
    ELSIF OLD.status <> 'ACTIVE' AND NEW.status = 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        DELETE FROM waiting_deliveries WHERE connector_id = OLD.id;
        NEW.failing_since := NULL;
        NEW.failures_in_a_row := 0;
        NEW.warned_days := 0;
        PERFORM start_connector(OLD.id);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER follow_change
    BEFORE UPDATE OF status, event_types, labels, url, headers, secret, previous_secret, previous_secret_until,
                     asymmetric_signature, standard_webhooks, retry_window_s ON data_connectors
    FOR EACH ROW EXECUTE FUNCTION data_connectors_follow_change();

-- Dispatchers listen to the channel `data_connectors`: a change of a connector ("id status", also DELETED), or work put
-- into its queue by others ("id").

CREATE FUNCTION data_connectors_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('data_connectors', coalesce(NEW.id, OLD.id) || ' ' || coalesce(NEW.status, 'DELETED'));
    RETURN NULL;
END $$;
CREATE TRIGGER tell
    AFTER INSERT OR DELETE OR UPDATE OF status, event_types, labels, url, headers, secret, previous_secret,
                     previous_secret_until, asymmetric_signature, standard_webhooks, retry_window_s ON data_connectors
    FOR EACH ROW EXECUTE FUNCTION data_connectors_tell();

CREATE FUNCTION waiting_deliveries_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('data_connectors', connector_id)
       FROM (SELECT DISTINCT connector_id FROM added WHERE cause IN ('replay', 'sync', 'test')) AS connectors;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON waiting_deliveries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION waiting_deliveries_tell();
