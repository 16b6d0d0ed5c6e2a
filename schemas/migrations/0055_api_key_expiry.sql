-- An API key may end by itself, at a time that was set when it was made.

ALTER TABLE api_keys ADD COLUMN expires_at timestamptz;
