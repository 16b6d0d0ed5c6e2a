"""The pages of one device: a module and a template each, below /devices/{device_id}."""
