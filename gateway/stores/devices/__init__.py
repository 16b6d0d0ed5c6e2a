"""Devices: registered, claimed, moved, changed, deleted; and as each who looks sees them."""
