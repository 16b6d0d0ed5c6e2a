-- A new day's partition is made beside the log and attached: neither waits for who reads the log, nor holds up who writes
-- to it. `CREATE TABLE … PARTITION OF` locks the whole log, and behind one open reader nothing was stored.

CREATE OR REPLACE FUNCTION create_event_partitions(days_ahead integer) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
DECLARE
    day date := (now() AT TIME ZONE 'UTC')::date;
    name text;
BEGIN
    FOR n IN 0..days_ahead LOOP
        name := 'events_' || to_char(day + n, 'YYYYMMDD');
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name));
        PERFORM pg_advisory_xact_lock(x'666C7064'::integer, 0);
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name));
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, (day + n) || ' 00:00:00+00', (day + n + 1) || ' 00:00:00+00');
    END LOOP;
END $$;
