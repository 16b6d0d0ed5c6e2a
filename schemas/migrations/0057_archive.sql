-- Closed days of the event log as files: which there are, and which of them count.

CREATE TABLE archived_days (
    day         date NOT NULL,
    shard       smallint NOT NULL,
    rows        bigint NOT NULL,
    last_seq    bigint,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, shard)
);
COMMENT ON TABLE archived_days IS 'Days of which all rows of a shard are in files, compared and kept.';
COMMENT ON COLUMN archived_days.last_seq IS 'The greatest sequence number among them: a greater one in the log came later. Null without rows.';

CREATE TABLE archive_files (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day        date NOT NULL,
    shard      smallint NOT NULL,
    project_id uuid,
    name       text NOT NULL UNIQUE,
    kept       boolean NOT NULL DEFAULT false,
    rows       bigint,
    size       bigint,
    first_at   timestamptz,
    last_at    timestamptz,
    first_seq  bigint,
    last_seq   bigint,
    device_ids uuid[],
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (NOT kept OR (rows IS NOT NULL AND size IS NOT NULL AND last_at IS NOT NULL AND last_seq IS NOT NULL))
);
CREATE INDEX archive_files_of_day ON archive_files (day, shard);
CREATE INDEX archive_files_unneeded ON archive_files (day, shard) WHERE NOT kept;
CREATE INDEX archive_files_of_project ON archive_files (project_id, last_at) WHERE kept;
CREATE INDEX archive_files_of_shard ON archive_files (shard, last_at) WHERE kept;
COMMENT ON TABLE archive_files IS 'Files of a project''s events of one shard and day. Those that are not kept are being written, or are to be deleted.';
COMMENT ON COLUMN archive_files.project_id IS 'Null: events of devices before they were claimed.';
COMMENT ON COLUMN archive_files.device_ids IS 'Whose events they are; null where they are of many devices.';
COMMENT ON COLUMN archive_files.last_at IS 'The latest time of an event in it, by the devices'' clocks.';
