-- Direct Device Integration: updaters compare older digests too, and tell when an attempt failed.

SET LOCAL lock_timeout = '10s';

ALTER TABLE files ADD COLUMN sha1 text, ADD COLUMN md5 text;
COMMENT ON COLUMN files.sha1 IS 'As firmware updaters compare it, beside SHA-256 which names the bytes; likewise md5.';

ALTER TABLE rollout_devices ADD COLUMN told_failed text;
COMMENT ON COLUMN rollout_devices.told_failed IS 'Why this attempt failed, when the device told so by itself; empty when it did not say why.';
