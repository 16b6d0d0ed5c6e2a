-- What has ended is kept for so long, and found by when it ended.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid
       AND indexrelid::regclass::text IN ('commands_ended', 'incidents_ended', 'devices_to_empty')
    UNION ALL
    SELECT 1, 'ALTER TABLE devices ADD COLUMN IF NOT EXISTS emptied boolean NOT NULL DEFAULT false'
    UNION ALL
    SELECT 2, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS commands_ended ON commands (finished_at) WHERE finished_at IS NOT NULL'
    UNION ALL
    SELECT 2, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_ended ON incidents (closed_at) WHERE closed_at IS NOT NULL'
    UNION ALL
    SELECT 2, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_to_empty ON devices (deleted_at) WHERE deleted_at IS NOT NULL AND NOT emptied'
) steps ORDER BY step;

-- In one transaction:

COMMENT ON COLUMN devices.emptied IS 'It was deleted, and what was known of it is gone but for what turns its key away.';
