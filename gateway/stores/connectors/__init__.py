"""Data connectors (events out) and cloud connectors (device lists in)."""
