-- What a device runs while a newer config waits for it, so that people see what will change.

ALTER TABLE devices ADD COLUMN applied_config json;
COMMENT ON COLUMN devices.applied_config IS
    'The config that the device applied last, as far as that was known when it said so; NULL before it ever did.';

CREATE FUNCTION keep_applied_config() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.applied_config := NEW.config;
    RETURN NEW;
END $$;

CREATE TRIGGER keep_applied_config BEFORE UPDATE OF applied_config_version ON devices FOR EACH ROW
    WHEN (NEW.applied_config_version > 0 AND NEW.applied_config_version = NEW.config_version
          AND NEW.applied_config_version IS DISTINCT FROM OLD.applied_config_version)
    EXECUTE FUNCTION keep_applied_config();
