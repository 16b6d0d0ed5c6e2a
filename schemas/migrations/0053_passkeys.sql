-- People sign in by passkeys: key pairs of which only the public half is here.

SET LOCAL lock_timeout = '10s';

CREATE TABLE passkeys (
    id            uuid PRIMARY KEY,
    person_id     uuid NOT NULL REFERENCES people ON DELETE CASCADE,
    credential_id bytea NOT NULL UNIQUE CHECK (length(credential_id) BETWEEN 1 AND 1023),
    public_key    bytea NOT NULL,
    sign_count    bigint NOT NULL CHECK (sign_count >= 0),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    created_at    timestamptz NOT NULL,
    used_at       timestamptz
);
CREATE INDEX passkeys_of_person ON passkeys (person_id, created_at);
COMMENT ON TABLE passkeys IS 'What people sign in with beside a password, or instead of one.';
COMMENT ON COLUMN passkeys.credential_id IS 'As the authenticator calls it: random, and no secret.';
COMMENT ON COLUMN passkeys.public_key IS 'In the form of COSE (RFC 9052).';
COMMENT ON COLUMN passkeys.sign_count IS 'How often the authenticator says that it signed; 0 where it does not count.';
