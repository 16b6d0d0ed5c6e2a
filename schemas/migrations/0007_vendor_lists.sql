-- Vendors' lists: what a person agreed to is the list that was seen, and what else a run must know of the one before.

ALTER TABLE cloud_connectors
    DROP COLUMN held_confirmed,
    ADD COLUMN held_list           text,
    ADD COLUMN held_at             timestamptz,
    ADD COLUMN confirmed_list      text,
    ADD COLUMN credentials_version bigint NOT NULL DEFAULT 1,
    ADD COLUMN consent             bytea NOT NULL DEFAULT '',
    ADD COLUMN rest_until          timestamptz,
    ADD COLUMN telemetry_error     text,
    ADD COLUMN telemetry_failures  integer NOT NULL DEFAULT 0,
    ADD COLUMN follow_spaces       boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN cloud_connectors.held_digest IS 'Of what the held list would take away: lists agree that have the same.';
COMMENT ON COLUMN cloud_connectors.held_list IS 'Digest of all that the held list would change: what a person sees.';
COMMENT ON COLUMN cloud_connectors.held_at IS 'When the last of the agreeing lists was counted.';
COMMENT ON COLUMN cloud_connectors.confirmed_list IS 'The held list that a person agreed to; no other is applied.';
COMMENT ON COLUMN cloud_connectors.credentials_version IS 'Grows when somebody authorises: tokens got for older credentials are void.';
COMMENT ON COLUMN cloud_connectors.consent IS 'JSON of what was entered for a consent that is under way at the vendor; encrypted.';
COMMENT ON COLUMN cloud_connectors.rest_until IS 'By its pace, or because it asked for a pause, the vendor is not asked before.';

ALTER TABLE cloud_devices
    ADD COLUMN space      text,
    ADD COLUMN reading    bytea,
    ADD COLUMN reading_at timestamptz;
COMMENT ON COLUMN cloud_devices.space IS 'Its place in the vendor''s tree, empty at the top; null when no list has told since this column is there.';
COMMENT ON COLUMN cloud_devices.reading IS 'Digest of the telemetry that was stored last, and when it was: an unchanged reading is not stored again.';

ALTER TABLE cloud_runs
    ADD COLUMN reenrolled integer NOT NULL DEFAULT 0,
    ADD COLUMN moved      integer NOT NULL DEFAULT 0;
