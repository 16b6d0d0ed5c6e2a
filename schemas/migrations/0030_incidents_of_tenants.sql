-- Whose incidents those are that were there before, and the lists of each tenant.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid
       AND indexrelid::regclass::text IN ('incidents_organization', 'incidents_vendor')
    UNION ALL
    SELECT 1, 'UPDATE incidents i SET organization_id = d.organization_id, vendor_id = m.organization_id '
              'FROM devices d, device_models m '
              'WHERE i.closed_at IS NOT NULL AND i.vendor_id IS NULL AND d.id = i.device_id AND m.id = d.model_id'
    UNION ALL
    SELECT 2, 'UPDATE incidents i SET organization_id = d.organization_id, vendor_id = m.organization_id '
              'FROM devices d, device_models m '
              'WHERE i.vendor_id IS NULL AND d.id = i.device_id AND m.id = d.model_id'
    UNION ALL
    SELECT 3, 'ALTER TABLE incidents VALIDATE CONSTRAINT incidents_kind'
    UNION ALL
    SELECT 4, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_organization ON incidents (organization_id, opened_at, id)'
    UNION ALL
    SELECT 4, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_vendor ON incidents (vendor_id, opened_at, id)'
) steps ORDER BY step;

-- In one transaction:

COMMENT ON COLUMN incidents.opened_at IS 'Lists of incidents are in this order.';
