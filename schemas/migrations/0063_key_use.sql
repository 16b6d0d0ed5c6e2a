-- When a program last called by a key, to the minute: what nobody uses can be ended without fear.

ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;
ALTER TABLE service_account_keys ADD COLUMN last_used_at timestamptz;
