-- What owners note of a space for their own use.

ALTER TABLE spaces ADD COLUMN config json NOT NULL DEFAULT '{}';
COMMENT ON COLUMN spaces.config IS 'Free JSON of the owner; devices are not told of it.';
