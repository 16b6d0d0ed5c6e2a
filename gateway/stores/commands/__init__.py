"""Commands: their definitions, sending, and handing out to devices."""
