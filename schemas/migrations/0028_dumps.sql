-- Dumps that devices send: logs, core files. Their bytes lie in the file store, in parts, since devices append to them.

SET LOCAL lock_timeout = '10s';

ALTER TABLE files ADD CONSTRAINT files_min_version_check CHECK (min_version_key < version_key);

CREATE TABLE dumps (
    id          uuid PRIMARY KEY,
    device_id   uuid NOT NULL REFERENCES devices,
    file_name   text NOT NULL,
    media_type  text NOT NULL,
    size        bigint NOT NULL CHECK (size > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    appended_at timestamptz
);
CREATE INDEX dumps_device ON dumps (device_id, id);
CREATE INDEX dumps_age ON dumps (created_at);

CREATE TABLE dump_parts (
    dump_id  uuid NOT NULL REFERENCES dumps ON DELETE CASCADE,
    number   integer NOT NULL,
    checksum text NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    size     bigint NOT NULL CHECK (size > 0),
    PRIMARY KEY (dump_id, number)
);
CREATE INDEX dump_parts_checksum ON dump_parts (checksum);
COMMENT ON COLUMN dump_parts.checksum IS 'SHA-256 of the part, and its name in the file store.';
