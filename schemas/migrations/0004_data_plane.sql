-- The data plane is cut by shard.
--
-- `shards`, `events`, `device_state`, `device_reported`, `ingest_ledger` and `ingest_quarantine` are the data plane: what
-- grows with messages. Every statement on them names its shard and joins no table of the control plane (a test of all
-- SQL keeps it so), every key of theirs begins with the shard, and no foreign key leads out of them: so they can be
-- spread over several servers by shard. `event_outbox` is no part of it: it is written with the changes it tells of.
--
-- Nothing dangles for want of the foreign keys: a device is never deleted from `devices`, only marked (`deleted_at`).
-- Its state and what it reported stay where they are, unread; its events go with their partitions.
--
-- What takes long is built beside the running system first, without a lock that writers wait for. An index that a
-- killed run left invalid is built anew.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text LIKE '%\_by\_shard'
    UNION ALL
    SELECT 1, format('CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS %I ON %I (shard, seq, stored_at)',
                     partition || '_by_shard', partition)
      FROM (SELECT inhrelid::regclass::text AS partition FROM pg_inherits WHERE inhparent = 'events'::regclass) partitions
    UNION ALL
    SELECT 1, format('CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS %I ON %I (%s)', name || '_by_shard', name, columns)
      FROM (VALUES ('device_state', 'shard, device_id'), ('device_reported', 'shard, device_id, type'),
                   ('ingest_quarantine', 'shard, id')) AS keys (name, columns)
) steps ORDER BY step;

-- In one transaction:

SET LOCAL lock_timeout = '10s';

-- A partition's key becomes a part of the whole table's, so nothing is built here but what is empty.
DO $$
DECLARE
    partition text;
BEGIN
    FOR partition IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass LOOP
        IF to_regclass(partition || '_by_shard') IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I',
                partition, partition || '_pkey', partition || '_by_shard');
        END IF;
    END LOOP;
END $$;
ALTER TABLE events ADD CONSTRAINT events_pkey PRIMARY KEY (shard, seq, stored_at);
DROP INDEX events_log;

ALTER TABLE device_state
    DROP CONSTRAINT device_state_pkey,
    DROP CONSTRAINT device_state_device_id_fkey,
    ADD CONSTRAINT device_state_pkey PRIMARY KEY USING INDEX device_state_by_shard;
ALTER TABLE device_reported
    DROP CONSTRAINT device_reported_pkey,
    DROP CONSTRAINT device_reported_device_id_fkey,
    ADD CONSTRAINT device_reported_pkey PRIMARY KEY USING INDEX device_reported_by_shard;
ALTER TABLE ingest_quarantine
    DROP CONSTRAINT ingest_quarantine_pkey,
    ADD CONSTRAINT ingest_quarantine_pkey PRIMARY KEY USING INDEX ingest_quarantine_by_shard;

-- A connector begins at the head of each shard's log.
CREATE OR REPLACE FUNCTION start_connector(connector text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    n smallint;
    head bigint;
BEGIN
    FOR n IN 0..(SELECT shards - 1 FROM installation) LOOP
        head := (SELECT next_seq FROM shards WHERE shard = n);
        INSERT INTO connector_positions (connector_id, shard, seq, stored_at)
        VALUES (connector, n, head, now() - interval '1 day')
        ON CONFLICT (connector_id, shard) DO UPDATE SET seq = excluded.seq, stored_at = excluded.stored_at;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION data_connectors_follow_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    waiting bigint;
    skipped bigint := 0;
    head bigint;
    place record;
BEGIN
    NEW.revision := OLD.revision + 1;
    IF OLD.status = 'ACTIVE' AND NEW.status <> 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        WITH gone AS (DELETE FROM waiting_deliveries WHERE connector_id = OLD.id RETURNING 1)
        SELECT count(*) INTO waiting FROM gone;
        FOR place IN SELECT shard, seq, stored_at FROM connector_positions WHERE connector_id = OLD.id ORDER BY shard LOOP
            head := (SELECT next_seq FROM shards WHERE shard = place.shard);
            skipped := skipped + (
                SELECT count(*) FROM events
                 WHERE shard = place.shard AND project_id = OLD.project_id AND seq >= place.seq AND seq < head
                   AND stored_at >= place.stored_at AND (OLD.event_types = '{}' OR type = ANY (OLD.event_types)));
            UPDATE connector_positions SET seq = head, stored_at = now() - interval '1 day'
             WHERE connector_id = OLD.id AND shard = place.shard;
        END LOOP;
        NEW.accepted := OLD.accepted + skipped;
        NEW.dropped := OLD.dropped + skipped + waiting;
    ELSIF OLD.status <> 'ACTIVE' AND NEW.status = 'ACTIVE' THEN
        NEW.epoch := OLD.epoch + 1;
        NEW.starts := OLD.starts + 1;
        DELETE FROM waiting_deliveries WHERE connector_id = OLD.id;
        NEW.failing_since := NULL;
        NEW.failures_in_a_row := 0;
        NEW.warned_days := 0;
        PERFORM start_connector(OLD.id);
    END IF;
    RETURN NEW;
END $$;
