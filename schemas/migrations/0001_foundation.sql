-- The foundation: tenants, devices, their state, commands, and the event log.
--
-- Three rules hold this schema together:
--   * `events` has one writer per shard (the flusher that owns the shard) and a gap-free sequence per shard,
--     so a reader that remembers a sequence number never skips a late commit. Everyone else hands events over
--     through `event_outbox`, in the transaction of the change the event tells of.
--   * What a device is told in its next answer is derived from `devices` and `commands`. Triggers count every
--     such change in `devices.reply_revision` and note the device in `reply_queue`, so no writer can forget.
--   * `shards.stream_offset` moves in the transaction that stores the rows it covers.

CREATE TABLE installation (
    id              boolean PRIMARY KEY DEFAULT true CHECK (id),
    shards          integer NOT NULL CHECK (shards BETWEEN 1 AND 256),
    key_fingerprint bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Tenants -----------------------------------------------------------------------------------------------------

CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    short_code text UNIQUE CHECK (short_code ~ '^[A-Za-z0-9]{2,8}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN organizations.short_code IS 'First part of the Cloud IDs of this organization''s own models (as vendor).';

CREATE TABLE api_keys (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('organization', 'partner')),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    digest          bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz
);
CREATE INDEX ON api_keys (organization_id);

CREATE TABLE projects (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, name)
);

CREATE TABLE spaces (
    id                uuid PRIMARY KEY,
    project_id        uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    parent_id         uuid REFERENCES spaces ON DELETE RESTRICT,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 255 AND position('/' IN name) = 0),
    full_path         text NOT NULL,
    latitude          double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude         double precision CHECK (longitude BETWEEN -180 AND 180),
    location_name     text,
    time_zone         text NOT NULL DEFAULT 'UTC',
    temperature_units text NOT NULL DEFAULT 'celsius' CHECK (temperature_units IN ('celsius', 'fahrenheit')),
    maintenance       boolean NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, full_path)
);
CREATE INDEX ON spaces (parent_id);
COMMENT ON COLUMN spaces.full_path IS 'Names from the root down, joined by /. Rewritten with the subtree on rename.';

-- Models ------------------------------------------------------------------------------------------------------

CREATE TABLE device_models (
    id                  uuid PRIMARY KEY,
    organization_id     uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    vendor              text NOT NULL CHECK (length(vendor) BETWEEN 1 AND 255),
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    authentication      text NOT NULL CHECK (authentication IN ('mac_sn', 'cloud_id')),
    offline_threshold_s integer NOT NULL DEFAULT 300 CHECK (offline_threshold_s BETWEEN 10 AND 2592000),
    rate_limit          integer NOT NULL DEFAULT 30 CHECK (rate_limit BETWEEN 1 AND 1000000),
    created_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, name)
);
COMMENT ON COLUMN device_models.rate_limit IS 'Calls a device may make in a window of 30 s.';

CREATE TABLE command_definitions (
    id            uuid PRIMARY KEY,
    model_id      uuid NOT NULL REFERENCES device_models ON DELETE CASCADE,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    friendly_name text NOT NULL,
    description   text NOT NULL DEFAULT '',
    needs_file    boolean NOT NULL DEFAULT false,
    timeout_s     integer NOT NULL DEFAULT 600 CHECK (timeout_s BETWEEN 1 AND 2592000),
    fields        json NOT NULL DEFAULT '[]',
    UNIQUE (model_id, name),
    UNIQUE (model_id, friendly_name)
);
COMMENT ON COLUMN command_definitions.fields IS 'Array of {name, type: string|integer|number|boolean, required, description}.';

CREATE TABLE hardware_keys (
    id         uuid PRIMARY KEY,
    model_id   uuid NOT NULL REFERENCES device_models ON DELETE CASCADE,
    name       text NOT NULL DEFAULT '',
    digest     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX ON hardware_keys (model_id);

-- Devices -----------------------------------------------------------------------------------------------------

CREATE TABLE devices (
    id                     uuid PRIMARY KEY,
    shard                  smallint NOT NULL,
    model_id               uuid NOT NULL REFERENCES device_models,
    hardware_key_id        uuid REFERENCES hardware_keys ON DELETE SET NULL,
    parent_id              uuid REFERENCES devices,
    sn                     text,
    mac                    text CHECK (mac ~ '^([0-9a-f]{2}:){5}[0-9a-f]{2}$'),
    cloud_id               text,
    name                   text NOT NULL DEFAULT '',
    sub_model              text,
    firmware_version       text NOT NULL,
    details                json NOT NULL DEFAULT '{}',
    host_address           text,
    cloud_settings         json NOT NULL DEFAULT '{}',
    key_version            smallint NOT NULL DEFAULT 0 CHECK (key_version BETWEEN 0 AND 255),
    registered_at          timestamptz NOT NULL DEFAULT now(),

    organization_id        uuid REFERENCES organizations,
    project_id             uuid REFERENCES projects,
    space_id               uuid REFERENCES spaces,
    claimed_at             timestamptz,

    config                 json NOT NULL DEFAULT '{}',
    config_version         bigint NOT NULL DEFAULT 0,
    config_updated_at      timestamptz,
    info_version           bigint NOT NULL DEFAULT 0,
    space_data_version     bigint NOT NULL DEFAULT 0,
    applied_config_version bigint NOT NULL DEFAULT 0,
    applied_space_version  bigint NOT NULL DEFAULT 0,
    open_commands          integer NOT NULL DEFAULT 0,
    reply_revision         bigint NOT NULL DEFAULT 0,
    deleted_at             timestamptz,

    CHECK ((project_id IS NULL) = (claimed_at IS NULL)),
    CHECK ((project_id IS NULL) = (space_id IS NULL)),
    CHECK ((project_id IS NULL) = (organization_id IS NULL))
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX devices_sn_key ON devices (model_id, sn) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX devices_cloud_id_key ON devices (cloud_id) WHERE deleted_at IS NULL;
CREATE INDEX devices_organization ON devices (organization_id, id) WHERE deleted_at IS NULL;
CREATE INDEX devices_project ON devices (project_id, id) WHERE deleted_at IS NULL;
CREATE INDEX devices_space ON devices (space_id) WHERE deleted_at IS NULL;
CREATE INDEX devices_parent ON devices (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX devices_mac ON devices (mac) WHERE deleted_at IS NULL;
COMMENT ON COLUMN devices.open_commands IS 'Commands of this device that are pending or in progress; kept by trigger.';
COMMENT ON COLUMN devices.reply_revision IS 'Grows with every change of what the device must be told; orders concurrent writers of the reply.';

CREATE TABLE device_state (
    device_id    uuid PRIMARY KEY REFERENCES devices,
    shard        smallint NOT NULL,
    status       text,
    telemetries  json NOT NULL DEFAULT '{}',
    times        json NOT NULL DEFAULT '{}',
    state_at     timestamptz,
    floor_at     timestamptz,
    last_seen_at timestamptz NOT NULL,
    offline      boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70);
COMMENT ON TABLE device_state IS 'Merge of all messages of a device. Written by the flusher that owns the shard; `offline` also by the sweep.';
COMMENT ON COLUMN device_state.times IS 'Per key the time (µs since 1970) of its value, or of its removal, where that differs from state_at.';
COMMENT ON COLUMN device_state.floor_at IS 'Time of the newest message with override: older messages no longer change the state.';

CREATE TABLE reply_queue (
    device_id uuid PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    revision  bigint NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON reply_queue (queued_at);
COMMENT ON TABLE reply_queue IS 'Devices whose prepared reply in Redis may be older than `revision`; whoever writes it there deletes the row.';

-- Commands and incidents --------------------------------------------------------------------------------------

CREATE TABLE commands (
    id            uuid PRIMARY KEY,
    number        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    device_id     uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    name          text NOT NULL,
    friendly_name text NOT NULL,
    parameters    json NOT NULL DEFAULT '{}',
    status        text NOT NULL CHECK (status IN ('scheduled', 'pending', 'in_progress', 'done', 'failed', 'aborted')),
    message       text,
    timeout_s     integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    scheduled_at  timestamptz,
    delivered_at  timestamptz,
    finished_at   timestamptz,
    expires_at    timestamptz NOT NULL
);
CREATE INDEX commands_of_device ON commands (device_id, number);
CREATE INDEX commands_open ON commands (device_id, number) WHERE status IN ('pending', 'in_progress');
CREATE INDEX commands_scheduled ON commands (scheduled_at) WHERE status = 'scheduled';
CREATE INDEX commands_undelivered ON commands (expires_at) WHERE status = 'pending';
CREATE INDEX commands_running ON commands (delivered_at) WHERE status IN ('pending', 'in_progress') AND delivered_at IS NOT NULL;
COMMENT ON COLUMN commands.number IS 'Order of creation: a device gets its commands first in, first out.';

CREATE TABLE incidents (
    id          uuid PRIMARY KEY,
    device_id   uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    issue       text NOT NULL,
    title       text NOT NULL,
    description text NOT NULL DEFAULT '',
    priority    smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    opened_at   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz
);
CREATE UNIQUE INDEX incidents_open ON incidents (device_id, issue) WHERE closed_at IS NULL;

-- The event log -----------------------------------------------------------------------------------------------

CREATE TABLE events (
    shard      smallint NOT NULL,
    seq        bigint NOT NULL,
    stored_at  timestamptz NOT NULL,
    type       text NOT NULL,
    device_id  uuid NOT NULL,
    project_id uuid,
    ts         timestamptz NOT NULL,
    data       json NOT NULL
) PARTITION BY RANGE (stored_at);
CREATE INDEX events_log ON events (shard, seq);
CREATE INDEX events_of_device ON events (device_id, ts);
CREATE INDEX events_of_project ON events (project_id, ts);
COMMENT ON TABLE events IS 'Append-only log of everything devices did, one partition a UTC day (events_YYYYMMDD), dropped by partition.';
COMMENT ON COLUMN events.seq IS 'Gap-free per shard, in order of commit.';
COMMENT ON COLUMN events.ts IS 'When it happened, by the device''s own clock where it sent one.';

CREATE TABLE event_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard      smallint NOT NULL,
    type       text NOT NULL,
    device_id  uuid NOT NULL,
    project_id uuid,
    ts         timestamptz NOT NULL DEFAULT now(),
    data       json NOT NULL
);
CREATE INDEX ON event_outbox (shard, id);

CREATE TABLE shards (
    shard         smallint PRIMARY KEY,
    stream_offset text NOT NULL DEFAULT '0-0',
    next_seq      bigint NOT NULL DEFAULT 1
);
COMMENT ON COLUMN shards.stream_offset IS 'Id of the last ingest stream entry whose messages are stored.';

CREATE TABLE ingest_ledger (
    shard   smallint NOT NULL,
    outcome text NOT NULL,
    count   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, outcome)
);
COMMENT ON TABLE ingest_ledger IS 'What became of every message read from the ingest streams: stored, or rejected for a reason.';

CREATE TABLE ingest_quarantine (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard     smallint NOT NULL,
    entry_id  text NOT NULL,
    position  integer NOT NULL,
    reason    text NOT NULL,
    message   bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ingest_quarantine IS 'Acknowledged messages that could not be stored as events, kept whole for a person to look at.';

-- Replies follow changes --------------------------------------------------------------------------------------

CREATE FUNCTION queue_reply(device uuid, device_revision bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO reply_queue (device_id, revision) VALUES (device, device_revision)
    ON CONFLICT (device_id) DO UPDATE SET revision = excluded.revision, queued_at = now()
$$;

CREATE FUNCTION devices_count_reply_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.config_version, OLD.info_version, OLD.space_data_version, OLD.key_version, OLD.deleted_at, OLD.open_commands > 0)
       IS DISTINCT FROM
       (NEW.config_version, NEW.info_version, NEW.space_data_version, NEW.key_version, NEW.deleted_at, NEW.open_commands > 0)
       OR NEW.reply_revision <> OLD.reply_revision THEN
        NEW.reply_revision := OLD.reply_revision + 1;
        PERFORM queue_reply(NEW.id, NEW.reply_revision);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER count_reply_change BEFORE UPDATE ON devices FOR EACH ROW EXECUTE FUNCTION devices_count_reply_change();

-- A new device that is to be told nothing needs no prepared reply; one with a rate limit of its own, or claimed, does.
CREATE FUNCTION devices_queue_first_reply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.space_data_version > 0 OR (SELECT rate_limit FROM device_models WHERE id = NEW.model_id) <> 30 THEN
        PERFORM queue_reply(NEW.id, NEW.reply_revision);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_first_reply AFTER INSERT ON devices FOR EACH ROW EXECUTE FUNCTION devices_queue_first_reply();

CREATE FUNCTION commands_count_open() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was integer := 0;
    is_now integer := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.status IN ('pending', 'in_progress') THEN was := 1; END IF;
    IF TG_OP <> 'DELETE' AND NEW.status IN ('pending', 'in_progress') THEN is_now := 1; END IF;
    IF was <> is_now THEN
        UPDATE devices SET open_commands = open_commands + is_now - was
         WHERE id = CASE WHEN TG_OP = 'DELETE' THEN OLD.device_id ELSE NEW.device_id END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_open AFTER INSERT OR UPDATE OF status OR DELETE ON commands
    FOR EACH ROW EXECUTE FUNCTION commands_count_open();

CREATE FUNCTION device_models_requeue_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE devices SET reply_revision = reply_revision + 1 WHERE model_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER requeue_replies AFTER UPDATE OF rate_limit ON device_models
    FOR EACH ROW WHEN (OLD.rate_limit IS DISTINCT FROM NEW.rate_limit) EXECUTE FUNCTION device_models_requeue_replies();

-- Partitions --------------------------------------------------------------------------------------------------

CREATE FUNCTION create_event_partitions(days_ahead integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR n IN 0..days_ahead LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
            to_char(day + n, 'YYYYMMDD'), (day + n) || ' 00:00:00+00', (day + n + 1) || ' 00:00:00+00');
    END LOOP;
END $$;
