"""Closed days of the event log go to files: see `schemas.archive`."""
