"""Closed days of the event log as Parquet files: how they are laid out, which of them count, how they are read."""
