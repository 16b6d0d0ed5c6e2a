-- What a data connector owes may be very many rows. A deleted one is taken out of its project at once, also by deleting
-- the project, and sends nothing more; its rows end in slices, as those of a disabled one, and then its own.

SET LOCAL lock_timeout = '10s';

ALTER TABLE data_connectors
    ALTER COLUMN project_id DROP NOT NULL,
    DROP CONSTRAINT data_connectors_project_id_fkey,
    ADD CONSTRAINT data_connectors_project_id_fkey FOREIGN KEY (project_id) REFERENCES projects ON DELETE SET NULL,
    ADD CONSTRAINT data_connectors_deleted CHECK (project_id IS NOT NULL OR status <> 'ACTIVE');
COMMENT ON COLUMN data_connectors.project_id IS 'Null once it is deleted, until a dispatcher has ended what it owed.';

CREATE OR REPLACE FUNCTION data_connectors_follow_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_deleted boolean := NEW.project_id IS NULL AND OLD.project_id IS NOT NULL;
    job bigint;
    head bigint;
    ahead bigint := 0;
    place record;
BEGIN
    NEW.revision := OLD.revision + 1;
    IF is_deleted THEN
        NEW.status := 'USER_DISABLED';
        NEW.url := '';
        NEW.headers := '';
        NEW.secret := '';
        NEW.previous_secret := '';
    END IF;
    IF (OLD.status = 'ACTIVE' AND NEW.status <> 'ACTIVE') OR is_deleted THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        UPDATE connector_jobs SET state = 'CANCELLED', ended_at = now()
         WHERE connector_id = OLD.id AND state = 'RUNNING' AND kind <> 'drop';
        INSERT INTO connector_jobs (connector_id, kind, event_types, waiting_id)
        VALUES (OLD.id, 'drop', OLD.event_types, coalesce((SELECT max(id) FROM waiting_deliveries), 0))
        RETURNING id INTO job;
        FOR place IN SELECT shard, seq, stored_at FROM connector_positions
                      WHERE connector_id = OLD.id AND NOT is_deleted ORDER BY shard LOOP
            head := (SELECT next_seq FROM shards WHERE shard = place.shard);
            CONTINUE WHEN place.seq >= head;
            INSERT INTO connector_job_spans (job_id, shard, low, high, since)
            VALUES (job, place.shard, place.seq, head, place.stored_at);
            UPDATE connector_positions SET seq = head, stored_at = now() - interval '1 day'
             WHERE connector_id = OLD.id AND shard = place.shard;
            ahead := ahead + head - place.seq;
        END LOOP;
        UPDATE connector_jobs SET total = ahead WHERE id = job;
    ELSIF OLD.status <> 'ACTIVE' AND NEW.status = 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        -- Test events that nobody sent; they are no part of the ledger.
        DELETE FROM waiting_deliveries
         WHERE connector_id = OLD.id AND cause = 'test'
           AND id > coalesce((SELECT max(waiting_id) FROM connector_jobs
                               WHERE connector_id = OLD.id AND state = 'RUNNING' AND kind = 'drop'), 0);
        NEW.failing_since := NULL;
        NEW.failures_in_a_row := 0;
        NEW.warned_days := 0;
        PERFORM start_connector(OLD.id);
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER follow_change ON data_connectors;
CREATE TRIGGER follow_change
    BEFORE UPDATE OF project_id, status, event_types, labels, url, headers, secret, previous_secret,
                     previous_secret_until, asymmetric_signature, standard_webhooks, retry_window_s, in_flight_max
    ON data_connectors FOR EACH ROW EXECUTE FUNCTION data_connectors_follow_change();
DROP TRIGGER tell ON data_connectors;
CREATE TRIGGER tell
    AFTER INSERT OR DELETE OR UPDATE OF project_id, status, event_types, labels, url, headers, secret, previous_secret,
                     previous_secret_until, asymmetric_signature, standard_webhooks, retry_window_s, in_flight_max
    ON data_connectors FOR EACH ROW EXECUTE FUNCTION data_connectors_tell();
