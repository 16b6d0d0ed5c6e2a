-- A firmware version is kept as its device told it beside its normal form, and a unit that asks to come back is noted.

SET LOCAL lock_timeout = '10s';

ALTER TABLE devices
    ADD COLUMN firmware_told       text,
    ADD COLUMN asked_back_at       timestamptz,
    ADD COLUMN asked_back_address  text,
    ADD COLUMN asked_back_firmware text;
COMMENT ON COLUMN devices.firmware_told IS 'The firmware version as the device told it, where that is not how it is written in firmware_version.';
COMMENT ON COLUMN devices.asked_back_at IS 'When a unit with its serial number and MAC or Cloud ID last tried to register though it is registered.';
