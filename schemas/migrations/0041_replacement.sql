-- Another unit takes a device's place, a unit comes back after a factory reset, and what was done to a device's identity
-- is kept for its owner to read.

SET LOCAL lock_timeout = '10s';

ALTER TABLE devices
    ADD COLUMN return_confirmed_until timestamptz,
    ADD COLUMN unit_since             timestamptz;
COMMENT ON COLUMN devices.return_confirmed_until IS 'Until when the unit that asked to come back gets a new key when it registers, once; its owner said so.';

COMMENT ON COLUMN devices.unit_since IS 'Since when it is the unit that it is: another took its place, or the same one came back. Null for its first.';

CREATE TABLE device_replacements (
    device_id       uuid PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    model_id        uuid NOT NULL REFERENCES device_models,
    sn              text NOT NULL,
    mac             text,
    cloud_id        text,
    requested_at    timestamptz NOT NULL,
    CHECK ((mac IS NULL) <> (cloud_id IS NULL))
);
CREATE INDEX device_replacements_unit ON device_replacements (model_id, sn);
COMMENT ON TABLE device_replacements IS 'Units that are to take a device''s place as soon as they register, while the organization owns the device.';

CREATE TABLE device_audit (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id       uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    organization_id uuid REFERENCES organizations ON DELETE CASCADE,
    at              timestamptz NOT NULL,
    actor           text NOT NULL CHECK (actor IN ('owner', 'vendor', 'unit')),
    actor_id        text NOT NULL,
    action          text NOT NULL,
    details         json NOT NULL DEFAULT '{}'
);
CREATE INDEX device_audit_of_device ON device_audit (device_id, id);
COMMENT ON TABLE device_audit IS 'Who did what to a device''s keys and to the unit that it is, when; shown to who owned it then.';
COMMENT ON COLUMN device_audit.actor_id IS 'The API key that was used, or the address that a unit called from.';
