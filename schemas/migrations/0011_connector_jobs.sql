-- What takes long with a connector's queue (a replay, a synchronization, the end of what a disabled one owed) is a job,
-- done by a dispatcher in short transactions: nobody holds the connector for longer than one of them takes.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text = 'waiting_deliveries_owed'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS waiting_deliveries_owed ON waiting_deliveries (connector_id, owed_since)'
) steps ORDER BY step;

-- In one transaction:

SET LOCAL lock_timeout = '10s';

CREATE TABLE connector_jobs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connector_id text NOT NULL REFERENCES data_connectors ON DELETE CASCADE,
    kind         text NOT NULL CHECK (kind IN ('replay', 'sync', 'drop')),
    state        text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'DONE', 'SUPERSEDED', 'CANCELLED')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    event_types  text[] NOT NULL,
    events       bigint NOT NULL DEFAULT 0,
    passed       bigint NOT NULL DEFAULT 0,
    total        bigint NOT NULL DEFAULT 0,
    start_at     timestamptz,
    end_at       timestamptz,
    device_id    uuid,
    waiting_id   bigint NOT NULL DEFAULT 0,
    CHECK ((kind = 'replay') = (start_at IS NOT NULL AND end_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX ON connector_jobs (connector_id, id);
CREATE INDEX connector_jobs_running ON connector_jobs (connector_id) WHERE state = 'RUNNING';
COMMENT ON TABLE connector_jobs IS 'Long work on a connector''s queue, done in slices: each one moves the job''s place and what it did in one transaction. Whoever works on one locks its connector first.';
COMMENT ON COLUMN connector_jobs.events IS 'Of a replay or a synchronization: put into the queue so far. Of a drop: ended so far, counted as `accepted` and `dropped`, or as `dropped` if they waited.';
COMMENT ON COLUMN connector_jobs.passed IS 'How much of `total` has been looked at: numbers of the log, or devices of a synchronization.';
COMMENT ON COLUMN connector_jobs.device_id IS 'Of a synchronization: the last device looked at.';
COMMENT ON COLUMN connector_jobs.waiting_id IS 'Of a drop: rows of waiting_deliveries up to this one end; 0 when none is left.';

CREATE TABLE connector_job_spans (
    job_id bigint NOT NULL REFERENCES connector_jobs ON DELETE CASCADE,
    shard  smallint NOT NULL,
    low    bigint NOT NULL,
    high   bigint NOT NULL,
    since  timestamptz NOT NULL,
    PRIMARY KEY (job_id, shard)
) WITH (fillfactor = 70);
COMMENT ON TABLE connector_job_spans IS 'Parts of the log that a job has still to look at: from `low` up to and not with `high`, stored since `since`.';

CREATE FUNCTION connector_jobs_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('data_connectors', NEW.connector_id);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON connector_jobs FOR EACH ROW EXECUTE FUNCTION connector_jobs_tell();

-- A connector that ceases to be ACTIVE stands at the head of the log at once. What it owed is for a job to end and to
-- count. Rows that waited are void from now on: those of a connector that is enabled again have larger ids.
CREATE OR REPLACE FUNCTION data_connectors_follow_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job bigint;
    head bigint;
    ahead bigint := 0;
    place record;
BEGIN
    NEW.revision := OLD.revision + 1;
    IF OLD.status = 'ACTIVE' AND NEW.status <> 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        UPDATE connector_jobs SET state = 'CANCELLED', ended_at = now()
         WHERE connector_id = OLD.id AND state = 'RUNNING' AND kind <> 'drop';
        INSERT INTO connector_jobs (connector_id, kind, event_types, waiting_id)
        VALUES (OLD.id, 'drop', OLD.event_types, coalesce((SELECT max(id) FROM waiting_deliveries), 0))
        RETURNING id INTO job;
        FOR place IN SELECT shard, seq, stored_at FROM connector_positions WHERE connector_id = OLD.id ORDER BY shard LOOP
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

ALTER TABLE device_state
    ADD COLUMN message_seq       bigint,
    ADD COLUMN message_stored_at timestamptz;
COMMENT ON COLUMN device_state.message_seq IS 'The event in the log of the newest message, by the time that orders states; with `message_stored_at` its place.';
COMMENT ON TABLE device_reported IS 'Newest event of each device and type that is synchronized, but telemetry (see device_state). Written by the flusher of the shard.';
