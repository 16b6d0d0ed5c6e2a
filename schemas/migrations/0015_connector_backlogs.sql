-- What lies ahead of a connector is kept by the dispatcher that owns it, not counted by whoever asks.

SET LOCAL lock_timeout = '10s';

ALTER TABLE data_connectors
    ADD COLUMN backlog    bigint NOT NULL DEFAULT 0,
    ADD COLUMN owed_since timestamptz;
COMMENT ON COLUMN data_connectors.backlog IS 'Events ahead of an ACTIVE connector that is behind, as its dispatcher last knew; 0 while it keeps up.';
COMMENT ON COLUMN data_connectors.owed_since IS 'When the oldest of these was stored.';
