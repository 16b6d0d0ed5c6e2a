"""Files for devices: what is known of them, their bytes on the way in, which of them a device may have."""
