-- The commands of a device that have one status, in the order of its list.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text = 'commands_by_status'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS commands_by_status ON commands (device_id, status, number)'
) steps ORDER BY step;

-- In one transaction:

COMMENT ON INDEX commands_by_status IS 'Without it a status that no command has took a look at all commands of the device.';
