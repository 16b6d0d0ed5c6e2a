-- Which firmware a device is offered is asked only where its model has any that is released: of most models it has none,
-- and preparing the question took a third of an import. The lock comes first, as before: what is read after it is not
-- older than it.

CREATE OR REPLACE FUNCTION devices_choose_firmware() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM FROM device_models WHERE id = NEW.model_id FOR KEY SHARE;
    END IF;
    NEW.latest_fw_file_id := NULL;
    NEW.latest_fw_version := NULL;
    IF EXISTS (SELECT FROM files WHERE for_model_id = NEW.model_id AND file_type = 'firmware' AND status = 'released') THEN
        SELECT o.file_id, o.version INTO NEW.latest_fw_file_id, NEW.latest_fw_version
          FROM offered_firmware(NEW.id, NEW.model_id, NEW.organization_id, NEW.firmware_version) o;
    END IF;
    RETURN NEW;
END $$;
