"""Licences: the keys that sign them, what vendors and owners see of them, and the device's side."""
