-- What a rule opened is found by the rule, what is open by its tenants; rules are read anew where a space comes below another one, at the commit.

SELECT statement FROM (
    SELECT 0 AS step, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS statement
      FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text IN ('incidents_of_rule', 'incidents_organization_open', 'incidents_vendor_open')
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_of_rule ON incidents (rule_id) WHERE rule_id IS NOT NULL AND closed_at IS NULL'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_organization_open ON incidents (organization_id, opened_at, id) WHERE closed_at IS NULL'
    UNION ALL
    SELECT 1, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS incidents_vendor_open ON incidents (vendor_id, opened_at, id) WHERE closed_at IS NULL'
) steps ORDER BY step;

-- In one transaction:

-- Whoever makes spaces may have much to do after that: the row that all of them count in is locked at the very end.
CREATE OR REPLACE FUNCTION count_space_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM incident_rules WHERE space_id IS NOT NULL)
       AND NOT EXISTS (SELECT FROM incident_rules_revision WHERE xmin = pg_current_xact_id()::xid) THEN
        UPDATE incident_rules_revision SET revision = revision + 1;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER spaces_moved_below_rules ON spaces;
CREATE CONSTRAINT TRIGGER spaces_made_below_rules AFTER INSERT ON spaces DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION count_space_moves();
CREATE CONSTRAINT TRIGGER spaces_moved_below_rules AFTER UPDATE OF parent_id ON spaces DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.parent_id IS DISTINCT FROM NEW.parent_id) EXECUTE FUNCTION count_space_moves();
