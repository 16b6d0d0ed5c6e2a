"""Organisations, their projects, and the spaces in these."""
