-- Lists of licences read what they show, whatever they are narrowed by: a word that stands for the state, and whose the
-- device is, stand in the licence.

SET LOCAL lock_timeout = '10s';

ALTER TABLE licenses
    ADD COLUMN word text NOT NULL GENERATED ALWAYS AS (CASE WHEN state LIKE 'error%' THEN 'error' ELSE state END) STORED,
    ADD COLUMN owner_id uuid;
COMMENT ON COLUMN licenses.word IS 'The state as people are told it.';
COMMENT ON COLUMN licenses.owner_id IS 'Who owns its device; kept by trigger.';
UPDATE licenses l SET owner_id = d.organization_id FROM devices d WHERE d.id = l.device_id AND d.deleted_at IS NULL;

DROP INDEX licenses_of_device;
CREATE INDEX licenses_of_device ON licenses (device_id, id) WHERE device_id IS NOT NULL;
CREATE INDEX licenses_of_model_by_word ON licenses (model_id, word, id);
CREATE INDEX licenses_of_owner ON licenses (owner_id, id) WHERE owner_id IS NOT NULL;
CREATE INDEX licenses_of_owner_by_word ON licenses (owner_id, word, id) WHERE owner_id IS NOT NULL;
CREATE INDEX licenses_of_owner_by_model ON licenses (owner_id, model_id, id) WHERE owner_id IS NOT NULL;

CREATE FUNCTION licenses_have_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.owner_id := (SELECT organization_id FROM devices WHERE id = NEW.device_id AND deleted_at IS NULL);
    RETURN NEW;
END $$;
CREATE TRIGGER have_owner BEFORE INSERT OR UPDATE OF device_id ON licenses
    FOR EACH ROW EXECUTE FUNCTION licenses_have_owner();

CREATE FUNCTION devices_hand_licenses_over() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE licenses SET owner_id = CASE WHEN NEW.deleted_at IS NULL THEN NEW.organization_id END
     WHERE device_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER hand_licenses_over AFTER UPDATE OF organization_id, deleted_at ON devices FOR EACH ROW
    WHEN ((OLD.organization_id, OLD.deleted_at) IS DISTINCT FROM (NEW.organization_id, NEW.deleted_at))
    EXECUTE FUNCTION devices_hand_licenses_over();
