-- A session gets another id when a role of its person changes, whoever changes it.

SET LOCAL lock_timeout = '10s';

ALTER TABLE sessions
    ADD COLUMN renew boolean NOT NULL DEFAULT false,
    ADD COLUMN digest_before bytea CHECK (length(digest_before) = 32),
    ADD COLUMN renewed_at timestamptz;
CREATE INDEX sessions_before ON sessions (digest_before) WHERE digest_before IS NOT NULL;
COMMENT ON COLUMN sessions.renew IS 'Whether the next call gets another id; set by trigger.';
COMMENT ON COLUMN sessions.digest_before IS 'The id before; good for a moment after renewed_at.';

CREATE FUNCTION memberships_renew_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions SET renew = true
     WHERE person_id IN (OLD.person_id, NEW.person_id) AND NOT renew;
    RETURN NULL;
END $$;
CREATE TRIGGER renew_sessions AFTER INSERT OR DELETE OR UPDATE OF role, person_id ON memberships
    FOR EACH ROW EXECUTE FUNCTION memberships_renew_sessions();
