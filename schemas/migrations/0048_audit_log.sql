-- Every change by anybody but devices, with who made it and from where.

SET LOCAL lock_timeout = '10s';

CREATE TABLE audit_log (
    id              uuid PRIMARY KEY,
    at              timestamptz NOT NULL,
    organization_id uuid REFERENCES organizations ON DELETE CASCADE,
    actor           text NOT NULL CHECK (length(actor) <= 255),
    action          text NOT NULL CHECK (length(action) <= 255),
    target          text NOT NULL CHECK (length(target) <= 2048),
    address         text NOT NULL CHECK (length(address) <= 64),
    given           json,
    before          json,
    after           json
);
CREATE INDEX audit_log_of_organization ON audit_log (organization_id, at DESC, id DESC);
CREATE INDEX audit_log_of_actor ON audit_log (organization_id, actor, at DESC, id DESC);
CREATE INDEX audit_log_of_action ON audit_log (organization_id, action, at DESC, id DESC);
CREATE INDEX audit_log_at ON audit_log (at);
COMMENT ON COLUMN audit_log.organization_id IS 'Whose business it was; null for what is about none, as of the command line.';
COMMENT ON COLUMN audit_log.actor IS 'person:…, key:… (an API key), command:… (who ran fleetgate admin), or a service account.';
COMMENT ON COLUMN audit_log.given IS 'What was asked for; secrets are masked here and in what follows.';
