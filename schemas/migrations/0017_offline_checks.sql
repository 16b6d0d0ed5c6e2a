-- The offline sweep looks at devices whose silence may be long enough by now, found by index, and at no others.
--
-- `check_at` moves on once in some minutes, not with every message: most updates of a state touch no index.

SELECT statement FROM (VALUES
    (0, 'ALTER TABLE device_state ADD COLUMN IF NOT EXISTS check_at timestamptz NOT NULL DEFAULT ''-infinity'''),
    (1, CASE WHEN EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text = 'device_state_check')
             THEN 'DROP INDEX CONCURRENTLY device_state_check' ELSE 'SELECT 1' END),
    (2, 'CREATE INDEX CONCURRENTLY IF NOT EXISTS device_state_check ON device_state (shard, check_at, device_id) WHERE NOT offline')
    ) AS steps (step, statement)
 ORDER BY step;

-- In one transaction:

COMMENT ON COLUMN device_state.check_at IS 'When the device may have been silent for too long, at the earliest: then the offline sweep looks at it.';
