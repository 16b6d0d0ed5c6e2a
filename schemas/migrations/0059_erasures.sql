-- What is to be erased from history on request.

CREATE TABLE erasures (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id    uuid,
    project_id   uuid,
    shard        smallint,
    requested_at timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz,
    CHECK ((device_id IS NULL) <> (project_id IS NULL) AND (device_id IS NULL) = (shard IS NULL))
);
CREATE INDEX erasures_open ON erasures (id) WHERE done_at IS NULL;
COMMENT ON TABLE erasures IS 'Devices and projects whose events up to requested_at are erased, in Postgres and in files.';
