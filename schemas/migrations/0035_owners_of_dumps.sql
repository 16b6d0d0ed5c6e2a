-- A dump is for whoever owned the device when it was sent: what it told its owner before is not the next one's.

SET LOCAL lock_timeout = '10s';

ALTER TABLE dumps ADD COLUMN organization_id uuid REFERENCES organizations;
COMMENT ON COLUMN dumps.organization_id IS 'Who owned the device then; null where nobody did.';
