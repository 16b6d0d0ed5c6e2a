-- A vendor makes organizations for its customers, so many and no more.

SET LOCAL lock_timeout = '10s';

ALTER TABLE organizations ADD COLUMN made_by uuid REFERENCES organizations ON DELETE SET NULL;
CREATE INDEX organizations_made_by ON organizations (made_by) WHERE made_by IS NOT NULL;
COMMENT ON COLUMN organizations.made_by IS 'The vendor that made it for a customer; null where the operator did.';
