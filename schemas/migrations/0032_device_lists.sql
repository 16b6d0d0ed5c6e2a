-- Lists of devices are read in their order whatever they are narrowed by: devices of a space (also deleted ones, whose
-- history is kept), of a model, with a name.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid
       AND indexrelid::regclass::text IN ('devices_by_space', 'devices_model', 'devices_name')
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_by_space ON devices (space_id, id) WHERE space_id IS NOT NULL'
    UNION ALL
    SELECT 2, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_model ON devices (model_id, id) WHERE deleted_at IS NULL'
    UNION ALL
    SELECT 3, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_name ON devices (project_id, name) WHERE project_id IS NOT NULL'
    UNION ALL
    SELECT 4, 'DROP INDEX CONCURRENTLY IF EXISTS devices_space'
) steps ORDER BY step;

-- In one transaction:

COMMENT ON INDEX devices_by_space IS 'Devices of a space in the order of lists, those too that were deleted in it.';
