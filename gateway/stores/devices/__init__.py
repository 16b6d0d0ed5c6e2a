"""Devices: registered, claimed, moved, changed, deleted; and the views of devices, owners, vendors and `/v2`."""
