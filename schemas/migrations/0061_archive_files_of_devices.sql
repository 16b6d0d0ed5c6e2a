-- Large files are found by the devices that they may hold: a day of a shard is several of them, in the order of devices.
ALTER TABLE archive_files ADD COLUMN first_device uuid, ADD COLUMN last_device uuid;
COMMENT ON COLUMN archive_files.first_device IS 'With last_device: the least and the greatest id in it; null in files of before.';
