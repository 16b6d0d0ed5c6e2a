-- Licences: what a vendor lets one device of its models do, signed by a key of the vendor's that is kept here.

SET LOCAL lock_timeout = '10s';

ALTER TABLE device_models ADD COLUMN license_algorithm text NOT NULL DEFAULT 'rsa'
    CHECK (license_algorithm IN ('rsa', 'ed25519'));
COMMENT ON COLUMN device_models.license_algorithm IS 'How licences of its devices are signed: RSA-2048 PKCS #1 v1.5 with SHA-256, or Ed25519.';

CREATE TABLE license_keys (
    id              text PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    algorithm       text NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),
    private         bytea NOT NULL,
    public          text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    retired_at      timestamptz
);
CREATE UNIQUE INDEX license_keys_signing ON license_keys (organization_id, algorithm) WHERE retired_at IS NULL;
CREATE INDEX license_keys_of_organization ON license_keys (organization_id, created_at);
COMMENT ON COLUMN license_keys.private IS 'PKCS #8, sealed.';
COMMENT ON COLUMN license_keys.public IS 'PEM.';
COMMENT ON COLUMN license_keys.retired_at IS 'Since when another key signs; what this one signed stays good.';

CREATE TABLE licenses (
    id         uuid PRIMARY KEY,
    model_id   uuid NOT NULL REFERENCES device_models ON DELETE CASCADE,
    device_id  uuid REFERENCES devices,
    name       text NOT NULL DEFAULT '',
    data       text NOT NULL CHECK (octet_length(data) <= 16384),
    signature  text NOT NULL,
    key_id     text NOT NULL REFERENCES license_keys,
    state      text NOT NULL DEFAULT 'available' CHECK (state IN (
                   'available', 'pending_add', 'inuse', 'pending_update', 'pending_remove', 'removed', 'expired',
                   'error_add', 'error_update', 'error_remove')),
    offer      text NOT NULL DEFAULT 'new' CHECK (offer IN ('new', 'fetched', 'verified', 'outdated')),
    error      text,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((device_id IS NULL) = (state = 'available'))
);
CREATE INDEX licenses_of_device ON licenses (device_id) WHERE device_id IS NOT NULL;
CREATE INDEX licenses_of_model ON licenses (model_id, id);
CREATE INDEX licenses_key ON licenses (key_id);
CREATE INDEX licenses_due ON licenses (expires_at) WHERE state = 'inuse' AND expires_at IS NOT NULL;
CREATE INDEX licenses_expired ON licenses (updated_at) WHERE state = 'expired';
COMMENT ON COLUMN licenses.offer IS 'What the device knows of the step that is pending: nothing, what there is, that and that it is good, or what was changed since.';
COMMENT ON COLUMN licenses.updated_at IS 'When its state, or what is signed, changed last; those that wait longest are offered first.';

-- What a device is told in its next answer: whether anything of its licences is pending.

ALTER TABLE devices ADD COLUMN pending_licenses integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN devices.pending_licenses IS 'Licences of this device that wait to be added, updated or removed; kept by trigger.';

CREATE FUNCTION licenses_count_pending() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was integer := 0;
    is_now integer := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.state LIKE 'pending%' THEN was := 1; END IF;
    IF TG_OP <> 'DELETE' AND NEW.state LIKE 'pending%' THEN is_now := 1; END IF;
    IF was <> is_now THEN
        UPDATE devices SET pending_licenses = pending_licenses + is_now - was
         WHERE id = CASE WHEN is_now > was THEN NEW.device_id ELSE OLD.device_id END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_pending AFTER INSERT OR UPDATE OF state, device_id OR DELETE ON licenses
    FOR EACH ROW EXECUTE FUNCTION licenses_count_pending();

CREATE OR REPLACE FUNCTION devices_count_reply_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.config_version, OLD.info_version, OLD.space_data_version, OLD.key_version, OLD.deleted_at, OLD.open_commands > 0,
        OLD.state_full_at IS NULL, OLD.previous_key_good, OLD.pending_licenses > 0)
       IS DISTINCT FROM
       (NEW.config_version, NEW.info_version, NEW.space_data_version, NEW.key_version, NEW.deleted_at, NEW.open_commands > 0,
        NEW.state_full_at IS NULL, NEW.previous_key_good, NEW.pending_licenses > 0)
       OR NEW.reply_revision <> OLD.reply_revision THEN
        NEW.reply_revision := OLD.reply_revision + 1;
        PERFORM queue_reply(NEW.id, NEW.reply_revision);
    END IF;
    RETURN NEW;
END $$;
