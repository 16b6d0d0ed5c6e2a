-- The state of a device stays on its page.
--
-- Devices that report once a minute do so in the same order each time, so all rows of a page are written in one
-- transaction. With half of it free the new rows fit beside the old ones and no index is touched; what is free at the
-- end of a transaction is used by the next. It holds for pages that are written from now on.

ALTER TABLE device_state SET (fillfactor = 50);
