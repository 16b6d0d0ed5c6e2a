"""The `/v2` API: projects, accounts, devices, events and data connectors, as existing clients call it."""
