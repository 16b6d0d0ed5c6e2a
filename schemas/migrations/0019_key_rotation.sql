-- A device's key is rotated: for a while the key before the new one is good too.

ALTER TABLE devices
    ADD COLUMN previous_key_version smallint CHECK (previous_key_version BETWEEN 0 AND 255),
    ADD COLUMN previous_key_until   timestamptz,
    ADD COLUMN previous_key_good    boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN devices.previous_key_until IS 'When the key before this one ends, or ended; null when it ended with the rotation.';
COMMENT ON COLUMN devices.previous_key_good IS 'Whether the key before this one is still good at the door.';
CREATE INDEX devices_previous_key ON devices (previous_key_until) WHERE previous_key_good;

CREATE OR REPLACE FUNCTION devices_count_reply_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.config_version, OLD.info_version, OLD.space_data_version, OLD.key_version, OLD.deleted_at, OLD.open_commands > 0,
        OLD.state_full_at IS NULL, OLD.previous_key_good)
       IS DISTINCT FROM
       (NEW.config_version, NEW.info_version, NEW.space_data_version, NEW.key_version, NEW.deleted_at, NEW.open_commands > 0,
        NEW.state_full_at IS NULL, NEW.previous_key_good)
       OR NEW.reply_revision <> OLD.reply_revision THEN
        NEW.reply_revision := OLD.reply_revision + 1;
        PERFORM queue_reply(NEW.id, NEW.reply_revision);
    END IF;
    RETURN NEW;
END $$;
