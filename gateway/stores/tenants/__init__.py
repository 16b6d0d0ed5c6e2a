"""Organizations, their projects, and the spaces in these."""
