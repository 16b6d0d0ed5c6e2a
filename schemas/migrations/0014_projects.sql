-- Projects are told apart by their ids, and say where they are; a person is one member wherever it is invited.

ALTER TABLE projects
    DROP CONSTRAINT projects_organization_id_name_key,
    ADD COLUMN latitude  double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN labels    json NOT NULL DEFAULT '{}';
CREATE INDEX projects_of_organization ON projects (organization_id, name, id);
COMMENT ON COLUMN projects.labels IS 'Label key → value.';

ALTER TABLE memberships ADD COLUMN member_id text NOT NULL GENERATED ALWAYS AS
    (coalesce(service_account_id, left(md5(organization_id::text || email), 20))) STORED;
CREATE INDEX ON memberships (member_id);
COMMENT ON COLUMN memberships.member_id IS 'The same for a service account or a person in all projects of an organization.';
