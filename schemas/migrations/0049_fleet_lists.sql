-- Devices are found by what their name or serial number begins with; people keep views of lists.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text IN ('devices_name_begins', 'devices_sn_begins')
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_name_begins ON devices (organization_id, lower(name) text_pattern_ops) WHERE deleted_at IS NULL'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_sn_begins ON devices (organization_id, lower(sn) text_pattern_ops) WHERE deleted_at IS NULL'
) steps ORDER BY step;

-- In one transaction:

CREATE TABLE saved_views (
    person_id       uuid NOT NULL REFERENCES people ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    page            text NOT NULL CHECK (length(page) <= 64),
    name            text NOT NULL CHECK (length(name) <= 60),
    query           text NOT NULL CHECK (length(query) <= 4000),
    PRIMARY KEY (person_id, organization_id, page, name)
);
CREATE INDEX saved_views_organization ON saved_views (organization_id);
COMMENT ON TABLE saved_views IS 'Views of lists that people keep. The one without a name is what was looked at last.';
