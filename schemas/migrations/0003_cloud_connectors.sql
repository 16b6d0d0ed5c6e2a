-- Cloud connectors: device lists of vendors' clouds, imported by comparing complete lists.

CREATE TABLE cloud_connectors (
    id                text PRIMARY KEY CHECK (length(id) = 20),
    organization_id   uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    project_id        uuid NOT NULL REFERENCES projects,
    space_id          uuid NOT NULL REFERENCES spaces,
    provider          text NOT NULL,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    settings          json NOT NULL DEFAULT '{}',
    status            text NOT NULL DEFAULT 'Unauthenticated'
                      CHECK (status IN ('Unauthenticated', 'Active', 'Disabled', 'Error')),
    error             text,
    revision          bigint NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),

    link_digest       bytea,
    passcode_digest   bytea,
    link_until        timestamptz,
    passcode_failures smallint NOT NULL DEFAULT 0,
    consent_digest    bytea,
    consent_until     timestamptz,
    credentials       bytea NOT NULL DEFAULT '',

    inventory_at      timestamptz,
    telemetry_at      timestamptz,
    failures_in_a_row integer NOT NULL DEFAULT 0,
    lease_holder      uuid,
    lease_until       timestamptz,
    found             integer NOT NULL DEFAULT 0,
    held              json,
    held_digest       text,
    held_in_a_row     integer NOT NULL DEFAULT 0,
    held_confirmed    integer
) WITH (fillfactor = 70);
CREATE INDEX ON cloud_connectors (organization_id, id);
CREATE INDEX ON cloud_connectors (project_id);
CREATE INDEX ON cloud_connectors (space_id);
CREATE UNIQUE INDEX ON cloud_connectors (link_digest);
CREATE UNIQUE INDEX ON cloud_connectors (consent_digest);
COMMENT ON COLUMN cloud_connectors.revision IS 'Grows with every change by a person: a run that began before it changes nothing.';
COMMENT ON COLUMN cloud_connectors.credentials IS 'JSON of what was entered, and tokens got for it; encrypted.';
COMMENT ON COLUMN cloud_connectors.consent_digest IS 'Of the state of a consent that is under way at the vendor.';
COMMENT ON COLUMN cloud_connectors.held IS 'Counts of a list that was not applied because it would exclude too much; null when none is held.';
COMMENT ON COLUMN cloud_connectors.held_confirmed IS 'How many devices a person agreed to have excluded.';

CREATE TABLE cloud_devices (
    connector_id text NOT NULL REFERENCES cloud_connectors ON DELETE CASCADE,
    vendor_id    text NOT NULL,
    device_id    uuid NOT NULL REFERENCES devices,
    name         text NOT NULL,
    serial       text,
    mac          text,
    model        text,
    firmware     text,
    excluded     text CHECK (excluded IN ('missing', 'user_deleted')),
    excluded_at  timestamptz,
    PRIMARY KEY (connector_id, vendor_id)
) WITH (fillfactor = 90);
CREATE INDEX ON cloud_devices (device_id);
COMMENT ON TABLE cloud_devices IS 'What each connector imported, as the vendor last told of it; `excluded` is null while a device is active.';

CREATE TABLE cloud_runs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES cloud_connectors ON DELETE CASCADE,
    kind         text NOT NULL CHECK (kind IN ('inventory', 'telemetry', 'preview')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    finished_at  timestamptz,
    found        integer NOT NULL DEFAULT 0,
    created      integer NOT NULL DEFAULT 0,
    renamed      integer NOT NULL DEFAULT 0,
    excluded     integer NOT NULL DEFAULT 0,
    restored     integer NOT NULL DEFAULT 0,
    skipped      integer NOT NULL DEFAULT 0,
    held         boolean NOT NULL DEFAULT false,
    error        text,
    details      json NOT NULL DEFAULT '{}'
);
CREATE INDEX ON cloud_runs (connector_id, id);
CREATE INDEX ON cloud_runs (id) WHERE kind = 'preview' AND started_at IS NULL;
COMMENT ON COLUMN cloud_runs.details IS 'Items skipped and why; for a preview also the first devices of each change.';

-- A user deletes an imported device: it stays excluded for good, whoever deletes it and however.
CREATE FUNCTION devices_exclude_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cloud_devices SET excluded = 'user_deleted', excluded_at = NEW.deleted_at WHERE device_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER exclude_deleted AFTER UPDATE OF deleted_at ON devices
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION devices_exclude_deleted();

-- A device that went to another organization is that one's alone; the next list imports it anew.
CREATE FUNCTION devices_leave_connector() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM cloud_devices WHERE device_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER leave_connector AFTER UPDATE OF organization_id ON devices
    FOR EACH ROW WHEN (NEW.organization_id IS NOT NULL AND OLD.organization_id <> NEW.organization_id)
    EXECUTE FUNCTION devices_leave_connector();
