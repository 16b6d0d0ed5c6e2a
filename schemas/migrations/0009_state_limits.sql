-- A device's state has limits, and what it costs to merge a message into it follows the message.
--
-- Of a large state only what changed lately lies in `telemetries` and `times`; the rest is settled: its columns are
-- stored apart from the row, and are neither read nor written by a message that brings nothing new to them.

SET LOCAL lock_timeout = '10s';

ALTER TABLE device_models
    ADD COLUMN state_keys_max  integer CHECK (state_keys_max BETWEEN 100 AND 20000),
    ADD COLUMN state_bytes_max integer CHECK (state_bytes_max BETWEEN 4096 AND 1048576);
COMMENT ON COLUMN device_models.state_keys_max IS 'Keys of a device''s state; null: as set for the installation.';
COMMENT ON COLUMN device_models.state_bytes_max IS 'Bytes of a device''s state as JSON; null: as set for the installation.';

ALTER TABLE device_state
    ADD COLUMN settled       json,
    ADD COLUMN settled_times json,
    ADD COLUMN settled_at    timestamptz;
COMMENT ON COLUMN device_state.settled IS 'The values of a large state that `telemetries` and the removals in `times` do not have newer ones of.';
COMMENT ON COLUMN device_state.settled_times IS 'As `times`, of the settled values and the removals before them, where they differ from settled_at.';

ALTER TABLE devices ADD COLUMN state_full_at timestamptz;
COMMENT ON COLUMN devices.state_full_at IS 'Since when values of its messages find no room in its state; null while all do.';

CREATE OR REPLACE FUNCTION devices_count_reply_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.config_version, OLD.info_version, OLD.space_data_version, OLD.key_version, OLD.deleted_at, OLD.open_commands > 0,
        OLD.state_full_at IS NULL)
       IS DISTINCT FROM
       (NEW.config_version, NEW.info_version, NEW.space_data_version, NEW.key_version, NEW.deleted_at, NEW.open_commands > 0,
        NEW.state_full_at IS NULL)
       OR NEW.reply_revision <> OLD.reply_revision THEN
        NEW.reply_revision := OLD.reply_revision + 1;
        PERFORM queue_reply(NEW.id, NEW.reply_revision);
    END IF;
    RETURN NEW;
END $$;
