-- What an API key may do: a role, checked as those of members are (gateway/permissions.py). Keys made before may go on
-- doing all that their kind may.

ALTER TABLE api_keys ADD COLUMN role text;
UPDATE api_keys SET role = kind || '.admin';
ALTER TABLE api_keys
    ALTER COLUMN role SET NOT NULL,
    ADD CONSTRAINT api_keys_role_check CHECK (
        kind = 'organization' AND role IN ('project.user', 'project.developer', 'project.admin', 'organization.admin')
        OR kind = 'partner' AND role IN ('partner.user', 'partner.admin'));
