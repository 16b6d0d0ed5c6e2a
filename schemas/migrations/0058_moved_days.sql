-- Days of the event log that lie in files alone.

CREATE TABLE moved_days (
    day      date PRIMARY KEY,
    moved_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE moved_days IS 'Days whose partition was dropped because all of it is in files. Written in the transaction that drops it.';

CREATE TABLE connector_job_files (
    job_id   bigint NOT NULL REFERENCES connector_jobs ON DELETE CASCADE,
    file_id  bigint NOT NULL REFERENCES archive_files ON DELETE CASCADE,
    next_row bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, file_id)
);
CREATE INDEX connector_job_files_of_file ON connector_job_files (file_id);
COMMENT ON TABLE connector_job_files IS 'Files of moved days that a replay has yet to put into its queue, each with the first row that it has not.';
