-- The master key has generations: what an older one made stays good until that is retired, what is new is of the newest.

CREATE TABLE master_keys (
    generation  smallint PRIMARY KEY CHECK (generation >= 0),
    fingerprint bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz
);
COMMENT ON TABLE master_keys IS 'By which processes know the master keys that they were given (schemas/master_keys.py).';

CREATE FUNCTION key_generation() RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(generation), 0)::smallint FROM master_keys
$$;
COMMENT ON FUNCTION key_generation() IS 'The generation of new keys.';

-- A key's version tells its generation: each has 64 of the 256, in turn.
CREATE FUNCTION first_key_version() RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT (key_generation() % 4 * 64)::smallint
$$;

-- The first master key is noted with the installation.
CREATE FUNCTION installation_notes_master_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO master_keys (generation, fingerprint) VALUES (0, NEW.key_fingerprint);
    RETURN NULL;
END $$;
CREATE TRIGGER note_master_key AFTER INSERT ON installation
    FOR EACH ROW EXECUTE FUNCTION installation_notes_master_key();
INSERT INTO master_keys (generation, fingerprint) SELECT 0, key_fingerprint FROM installation;

ALTER TABLE devices ALTER COLUMN key_version SET DEFAULT first_key_version();
ALTER TABLE service_account_keys ADD COLUMN generation smallint NOT NULL DEFAULT 0;
ALTER TABLE service_account_keys ALTER COLUMN generation SET DEFAULT key_generation();
COMMENT ON COLUMN service_account_keys.generation IS 'Of the master key that its secret is derived from.';
