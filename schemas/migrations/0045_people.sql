-- People sign in: who they are, by what link they come the first time, and their sessions. Of links and sessions only
-- digests are kept, so nobody who reads the database can use one.

SET LOCAL lock_timeout = '10s';

CREATE TABLE people (
    id         uuid PRIMARY KEY,
    email      text NOT NULL CHECK (length(email) BETWEEN 3 AND 255),
    name       text NOT NULL DEFAULT '' CHECK (length(name) <= 255),
    password   text CHECK (length(password) <= 255),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX people_email ON people (lower(email));
COMMENT ON TABLE people IS 'Who can sign in. What they may do is in their memberships.';
COMMENT ON COLUMN people.password IS 'Its argon2id digest with salt and parameters; null for who comes in another way.';

CREATE TABLE sessions (
    id              uuid PRIMARY KEY,
    digest          bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    person_id       uuid NOT NULL REFERENCES people ON DELETE CASCADE,
    organization_id uuid REFERENCES organizations ON DELETE SET NULL,
    created_at      timestamptz NOT NULL,
    seen_at         timestamptz NOT NULL,
    address         text NOT NULL CHECK (length(address) <= 64),
    user_agent      text NOT NULL CHECK (length(user_agent) <= 255)
);
CREATE INDEX sessions_of_person ON sessions (person_id, created_at);
CREATE INDEX sessions_seen ON sessions (seen_at);
COMMENT ON COLUMN sessions.organization_id IS 'The organization that the person looks at.';

-- A role as vendor can be had beside the one as owner.
ALTER TABLE memberships
    ADD COLUMN person_id uuid REFERENCES people ON DELETE CASCADE,
    DROP CONSTRAINT memberships_role_check,
    DROP CONSTRAINT memberships_check,
    DROP CONSTRAINT memberships_organization_id_project_id_service_account_id_e_key,
    ADD CONSTRAINT memberships_role_check CHECK (role IN ('project.user', 'project.developer', 'project.admin',
        'organization.admin', 'partner.user', 'partner.admin')),
    ADD CONSTRAINT memberships_check CHECK ((project_id IS NOT NULL) = (role LIKE 'project.%')),
    ADD CONSTRAINT memberships_person_check CHECK (person_id IS NULL OR email IS NOT NULL);
CREATE UNIQUE INDEX memberships_once ON memberships
    (organization_id, project_id, service_account_id, email, (role LIKE 'partner.%')) NULLS NOT DISTINCT;
CREATE INDEX memberships_of_person ON memberships (person_id);
COMMENT ON COLUMN memberships.person_id IS 'Who accepted the invitation to this address; null while nobody has.';

CREATE TABLE sign_in_links (
    digest        bytea PRIMARY KEY CHECK (length(digest) = 32),
    membership_id text REFERENCES memberships ON DELETE CASCADE,
    person_id     uuid REFERENCES people ON DELETE CASCADE,
    at_once       boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    CHECK ((membership_id IS NULL) <> (person_id IS NULL))
);
CREATE INDEX sign_in_links_of_membership ON sign_in_links (membership_id);
CREATE INDEX sign_in_links_of_person ON sign_in_links (person_id);
CREATE INDEX sign_in_links_expired ON sign_in_links (expires_at);
COMMENT ON TABLE sign_in_links IS 'Links that work once: invitations to a membership, and ways in for a person.';
COMMENT ON COLUMN sign_in_links.at_once IS 'Whether opening it is enough; else a button of its page must be pressed.';
