-- People sign in at an identity provider, which also says what roles they have: these are known from those that were
-- given here, and hold only in sessions that the provider vouched for.

SET LOCAL lock_timeout = '10s';

ALTER TABLE memberships ADD COLUMN from_provider boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN memberships.from_provider IS 'Whether the identity provider gave the role, and takes it away again.';

ALTER TABLE sessions ADD COLUMN vouched_at timestamptz;
COMMENT ON COLUMN sessions.vouched_at IS 'When the identity provider said who this is; null where it did not.';
