-- Events that the log dropped before a data connector came to read them: how many of those that expired, and from when.
ALTER TABLE data_connectors ADD COLUMN expired_unread bigint NOT NULL DEFAULT 0,
                            ADD COLUMN expired_unread_from timestamptz,
                            ADD COLUMN expired_unread_until timestamptz;
COMMENT ON COLUMN data_connectors.expired_unread IS 'Of those that expired, events whose partition was dropped before they were read; they were stored between expired_unread_from and expired_unread_until.';
