-- Whom an identity provider means by its subject, once that was found out by a verified address: addresses are given to
-- other people in time, subjects never.

CREATE TABLE provider_identities (
    issuer    text NOT NULL CHECK (length(issuer) <= 2048),
    subject   text NOT NULL CHECK (length(subject) <= 255),
    person_id uuid NOT NULL REFERENCES people ON DELETE CASCADE,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (person_id, issuer)
);
