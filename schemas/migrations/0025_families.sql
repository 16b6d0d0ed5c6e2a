-- No device is below one of another owner, which would be handed its commands and could delete it.

UPDATE devices d SET parent_id = NULL FROM devices p
 WHERE p.id = d.parent_id AND d.deleted_at IS NULL AND p.organization_id <> d.organization_id;
