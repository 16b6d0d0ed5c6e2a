-- The reply of a deleted device, which turns its key away, is taken out of Redis again: an hour later, or a week after it
-- called. Then it stands in `reply_queue` once more. Those of devices that were deleted before are taken out now.

SELECT statement FROM (VALUES
    (1, 'ALTER TABLE reply_queue ADD COLUMN IF NOT EXISTS forget boolean NOT NULL DEFAULT false'),
    (2, 'INSERT INTO reply_queue (device_id, revision, forget)
         SELECT id, reply_revision, true FROM devices WHERE deleted_at < now() - interval ''1 hour''
         ON CONFLICT DO NOTHING')) AS steps (step, statement)
 ORDER BY step;

-- In one transaction:

COMMENT ON COLUMN reply_queue.forget IS 'The device was deleted, and its reply is no longer needed: to be taken out of Redis.';

CREATE OR REPLACE FUNCTION queue_reply(device uuid, device_revision bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO reply_queue (device_id, revision) VALUES (device, device_revision)
    ON CONFLICT (device_id) DO UPDATE SET revision = excluded.revision, queued_at = now(), forget = false
$$;
