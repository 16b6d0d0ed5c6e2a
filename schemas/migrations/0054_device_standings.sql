-- What a fleet is listed and counted by is kept by index: how each device is seen, its labels, its firmware.
--
-- How a device is seen follows from several tables. Whoever changes one of them leaves the device in `standings_due`, and
-- one worker at a time works out what it is now (see workers/standings.py). The one row that names nothing means all
-- devices: until it is gone, lists look at the devices themselves.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text IN ('devices_firmware', 'cloud_devices_of_connector')
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_firmware ON devices (organization_id, firmware_version, id) WHERE deleted_at IS NULL'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS cloud_devices_of_connector ON cloud_devices (connector_id, device_id)'
) steps ORDER BY step;

-- In one transaction:

SET LOCAL lock_timeout = '10s';

CREATE TABLE device_standings (
    device_id       uuid PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    organization_id uuid NOT NULL,
    project_id      uuid,
    space_id        uuid,
    status          text NOT NULL,
    seen_at         timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX device_standings_status ON device_standings (organization_id, status, device_id);
CREATE INDEX device_standings_seen ON device_standings (organization_id, seen_at);
COMMENT ON TABLE device_standings IS 'The devices that somebody owns, as lists find and count them.';
COMMENT ON COLUMN device_standings.seen_at IS 'Never later than when the device was last seen, and mostly not much earlier; -infinity before that.';

CREATE TABLE device_labels (
    device_id       uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    organization_id uuid NOT NULL,
    key             text NOT NULL,
    value           text NOT NULL,
    PRIMARY KEY (device_id, key)
);
CREATE INDEX device_labels_value ON device_labels (organization_id, key, value, device_id);
COMMENT ON TABLE device_labels IS 'The labels of devices that somebody owns, by which lists find them; kept by trigger.';

CREATE TABLE standings_due (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id    uuid,
    connector_id text,
    after_id     uuid
);
CREATE INDEX standings_due_many ON standings_due (id) WHERE device_id IS NULL;
COMMENT ON TABLE standings_due IS 'A device, all that a cloud connector imported, or all (no device, no connector), whose standing may be another now.';
COMMENT ON COLUMN standings_due.after_id IS 'Of many: how far they are done.';
INSERT INTO standings_due (device_id) SELECT NULL WHERE EXISTS (SELECT FROM devices);

CREATE FUNCTION standing_is_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO standings_due (device_id) VALUES (CASE WHEN TG_OP = 'DELETE' THEN OLD.device_id ELSE NEW.device_id END);
    RETURN NULL;
END $$;
CREATE FUNCTION standings_of_new_are_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO standings_due (device_id) SELECT device_id FROM changed;
    RETURN NULL;
END $$;
CREATE FUNCTION standing_of_device_is_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO standings_due (device_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE FUNCTION standings_of_new_devices_are_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO standings_due (device_id) SELECT id FROM changed WHERE organization_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE FUNCTION standings_of_connector_are_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO standings_due (connector_id) VALUES (NEW.id);
    RETURN NULL;
END $$;

CREATE TRIGGER standing_is_due AFTER INSERT ON devices REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION standings_of_new_devices_are_due();
CREATE TRIGGER standing_is_due_again AFTER UPDATE OF organization_id, project_id, space_id, parent_id, deleted_at ON devices
    FOR EACH ROW WHEN ((OLD.organization_id, OLD.project_id, OLD.space_id, OLD.parent_id, OLD.deleted_at)
                       IS DISTINCT FROM (NEW.organization_id, NEW.project_id, NEW.space_id, NEW.parent_id, NEW.deleted_at))
    EXECUTE FUNCTION standing_of_device_is_due();

CREATE TRIGGER standing_is_due AFTER INSERT ON incidents FOR EACH ROW
    WHEN (NEW.issue <> 'offline' OR NEW.kind <> 'rule') EXECUTE FUNCTION standing_is_due();
CREATE TRIGGER standing_is_due_again AFTER UPDATE OF closed_at, priority, issue, kind ON incidents FOR EACH ROW
    WHEN ((NEW.issue <> 'offline' OR NEW.kind <> 'rule') AND (OLD.closed_at, OLD.priority, OLD.issue, OLD.kind)
          IS DISTINCT FROM (NEW.closed_at, NEW.priority, NEW.issue, NEW.kind)) EXECUTE FUNCTION standing_is_due();
CREATE TRIGGER standing_is_due_still AFTER DELETE ON incidents FOR EACH ROW
    WHEN (OLD.closed_at IS NULL) EXECUTE FUNCTION standing_is_due();

CREATE TRIGGER standing_is_due AFTER INSERT ON cloud_devices REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION standings_of_new_are_due();
CREATE TRIGGER standing_is_due_again AFTER UPDATE OF excluded, device_id ON cloud_devices FOR EACH ROW
    WHEN ((OLD.excluded, OLD.device_id) IS DISTINCT FROM (NEW.excluded, NEW.device_id))
    EXECUTE FUNCTION standing_is_due();
CREATE TRIGGER standing_is_due_still AFTER DELETE ON cloud_devices REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION standings_of_new_are_due();
CREATE TRIGGER standing_is_due AFTER UPDATE OF status ON cloud_connectors FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION standings_of_connector_are_due();

CREATE FUNCTION keep_device_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM device_labels WHERE device_id = NEW.id;
    END IF;
    IF NEW.organization_id IS NOT NULL AND NEW.deleted_at IS NULL THEN
        INSERT INTO device_labels (device_id, organization_id, key, value)
        SELECT NEW.id, NEW.organization_id, key, value FROM json_each_text(NEW.labels) WHERE value IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_device_labels AFTER INSERT ON devices FOR EACH ROW
    WHEN (NEW.labels::text <> '{}') EXECUTE FUNCTION keep_device_labels();
CREATE TRIGGER keep_device_labels_now AFTER UPDATE OF labels, organization_id, deleted_at ON devices FOR EACH ROW
    WHEN ((NEW.labels::text <> '{}' OR OLD.labels::text <> '{}')
          AND (OLD.labels::text, OLD.organization_id, OLD.deleted_at IS NULL)
              IS DISTINCT FROM (NEW.labels::text, NEW.organization_id, NEW.deleted_at IS NULL))
    EXECUTE FUNCTION keep_device_labels();
