-- Devices of a model are locked in the order of their ids, as by everybody who changes several.

CREATE OR REPLACE FUNCTION device_models_requeue_replies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE devices SET reply_revision = reply_revision + 1
     WHERE id IN (SELECT id FROM devices WHERE model_id = NEW.id ORDER BY id FOR NO KEY UPDATE);
    RETURN NULL;
END $$;
