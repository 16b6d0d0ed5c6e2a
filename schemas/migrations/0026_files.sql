-- Files for devices, firmware above all, and which firmware each device is told of.
--
--   * A file belongs to a model, for all its devices, or to an organization, for its own. Its bytes lie in the file
--     store by their SHA-256; here is what is known of them.
--   * `offered_firmware` is the one rule by which a device learns of firmware. Triggers keep `devices.latest_fw_*` true
--     where the device changes; where files change, a worker goes through the model's devices (`firmware_sweeps`).

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text = 'devices_model'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_model ON devices (model_id, id) WHERE deleted_at IS NULL'
) steps ORDER BY step;

-- In one transaction:

SET LOCAL lock_timeout = '10s';

CREATE FUNCTION semver_key(version text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    plain text := split_part(version, '+', 1);
    numbers text := split_part(plain, '-', 1);
    prerelease text := substr(plain, length(numbers) + 2);
    key text := '';
    part text;
BEGIN
    IF numbers !~ '^[0-9]+\.[0-9]+\.[0-9]+$' THEN
        RETURN NULL;
    END IF;
    FOREACH part IN ARRAY string_to_array(numbers, '.') LOOP
        key := key || lpad(length(part)::text, 3, '0') || part;
    END LOOP;
    IF prerelease = '' THEN
        RETURN key || '3';
    END IF;
    FOREACH part IN ARRAY string_to_array(prerelease, '.') LOOP
        key := key || CASE WHEN part ~ '^[0-9]+$' THEN '1' || lpad(length(part)::text, 3, '0') || part ELSE '2' || part || '!' END;
    END LOOP;
    RETURN key;
END $$;
COMMENT ON FUNCTION semver_key IS 'A text that sorts, in the C collation, as semantic versions do (SemVer 2.0.0, section 11); null for what is none.';

CREATE TABLE files (
    id              uuid PRIMARY KEY,
    organization_id uuid REFERENCES organizations,
    model_id        uuid REFERENCES device_models ON DELETE CASCADE,
    for_model_id    uuid REFERENCES device_models ON DELETE CASCADE,
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    file_type       text NOT NULL,
    version         text,
    version_key     text COLLATE "C" GENERATED ALWAYS AS (semver_key(version)) STORED,
    min_version     text,
    min_version_key text COLLATE "C" GENERATED ALWAYS AS (semver_key(min_version)) STORED,
    checksum        text CHECK (checksum ~ '^[0-9a-f]{64}$'),
    size            bigint CHECK (size > 0),
    signature       text,
    public_notes    text NOT NULL DEFAULT '',
    status          text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'released', 'withdrawn')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    released_at     timestamptz,
    withdrawn_at    timestamptz,

    CHECK (num_nonnulls(organization_id, model_id) = 1),
    CHECK (model_id IS NULL OR for_model_id = model_id),
    CHECK ((checksum IS NULL) = (size IS NULL)),
    CHECK (status = 'draft' OR checksum IS NOT NULL),
    CHECK (file_type <> 'firmware' OR (version_key IS NOT NULL AND for_model_id IS NOT NULL))
);
CREATE INDEX files_organization ON files (organization_id, id) WHERE organization_id IS NOT NULL;
CREATE INDEX files_model ON files (model_id, id) WHERE model_id IS NOT NULL;
CREATE INDEX files_checksum ON files (checksum);
CREATE UNIQUE INDEX files_firmware ON files (for_model_id, version_key, organization_id) NULLS NOT DISTINCT
    WHERE status = 'released' AND file_type = 'firmware';
COMMENT ON COLUMN files.organization_id IS 'Whose file it is, for its own devices; null for a model''s.';
COMMENT ON COLUMN files.model_id IS 'Whose file it is, for all its devices; null for an organization''s.';
COMMENT ON COLUMN files.for_model_id IS 'The model whose devices it is for; null for an organization''s file for devices of all models.';
COMMENT ON COLUMN files.checksum IS 'SHA-256 of the bytes, and their name in the file store; null until they are there, and then never another.';
COMMENT ON COLUMN files.min_version IS 'Only devices that have this version or a later one are offered the file.';

ALTER TABLE devices
    ADD COLUMN latest_fw_file_id uuid,
    ADD COLUMN latest_fw_version text;
COMMENT ON COLUMN devices.latest_fw_file_id IS 'The firmware that the device is offered, by offered_firmware; no foreign key, which would have to be looked for in all devices.';

CREATE FUNCTION offered_firmware(device_id uuid, model_id uuid, organization_id uuid, firmware_version text)
RETURNS TABLE (file_id uuid, version text) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT f.id, f.version FROM files f
     WHERE f.status = 'released' AND f.file_type = 'firmware' AND f.for_model_id = $2
       AND (f.organization_id IS NULL OR f.organization_id = $3)
       AND f.version_key > semver_key($4) COLLATE "C"
       AND (f.min_version_key IS NULL OR f.min_version_key <= semver_key($4) COLLATE "C")
     ORDER BY f.version_key DESC, f.released_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION offered_firmware IS 'Which firmware is a device''s: the highest released version above its own whose min_version it meets.';

-- Volatile, so that what it reads is not older than the lock that it got: whoever releases firmware holds the model's
-- row, and the sweep that follows finds every device that did not see the release yet.
CREATE FUNCTION devices_choose_firmware() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM FROM device_models WHERE id = NEW.model_id FOR KEY SHARE;
    END IF;
    SELECT o.file_id, o.version INTO NEW.latest_fw_file_id, NEW.latest_fw_version
      FROM offered_firmware(NEW.id, NEW.model_id, NEW.organization_id, NEW.firmware_version) o;
    RETURN NEW;
END $$;
CREATE TRIGGER choose_firmware BEFORE INSERT ON devices FOR EACH ROW EXECUTE FUNCTION devices_choose_firmware();
CREATE TRIGGER choose_other_firmware BEFORE UPDATE OF firmware_version, organization_id, model_id ON devices FOR EACH ROW
    WHEN ((OLD.firmware_version, OLD.organization_id, OLD.model_id)
          IS DISTINCT FROM (NEW.firmware_version, NEW.organization_id, NEW.model_id))
    EXECUTE FUNCTION devices_choose_firmware();

-- Triggers fire by name: this one comes before count_reply_change, which queues the reply.
CREATE FUNCTION devices_count_firmware_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.reply_revision := NEW.reply_revision + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER count_firmware_change BEFORE UPDATE ON devices FOR EACH ROW
    WHEN ((OLD.latest_fw_file_id, OLD.latest_fw_version) IS DISTINCT FROM (NEW.latest_fw_file_id, NEW.latest_fw_version))
    EXECUTE FUNCTION devices_count_firmware_change();

CREATE FUNCTION devices_queue_firmware_reply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM queue_reply(NEW.id, NEW.reply_revision);
    RETURN NULL;
END $$;
CREATE TRIGGER queue_firmware_reply AFTER INSERT ON devices FOR EACH ROW
    WHEN (NEW.latest_fw_file_id IS NOT NULL) EXECUTE FUNCTION devices_queue_firmware_reply();

CREATE TABLE firmware_sweeps (
    file_id      uuid PRIMARY KEY REFERENCES files ON DELETE CASCADE,
    model_id     uuid NOT NULL REFERENCES device_models ON DELETE CASCADE,
    after_id     uuid,
    devices      bigint,
    done         bigint NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE INDEX firmware_sweeps_open ON firmware_sweeps (requested_at) WHERE finished_at IS NULL;
COMMENT ON TABLE firmware_sweeps IS 'A file was released or withdrawn: a worker goes through the devices of its model, in the order of their ids.';
COMMENT ON COLUMN firmware_sweeps.after_id IS 'The last device that was looked at.';
COMMENT ON COLUMN firmware_sweeps.devices IS 'How many devices there are to look at, as counted when the sweep began.';
