-- What tells that a store went back in time.

ALTER TABLE installation ADD COLUMN generation integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN installation.generation IS 'How often this database was found to be another, or at an earlier point, than before; prepared replies of an earlier generation are outdated.';

ALTER TABLE installation ADD COLUMN heartbeat bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN installation.heartbeat IS 'Grows every second while a worker runs: when it is lower than it was, the database went back.';

ALTER TABLE shards ADD COLUMN stream_server bytea;
COMMENT ON COLUMN shards.stream_server IS 'Run of the Redis server that the entry at stream_offset was sent to; null when it is not known.';

COMMENT ON COLUMN events.seq IS 'In order of commit in each shard; without gaps but for those where the database went back in time.';
