"""Firmware rollouts: their plans, what people do with them, and how far they are."""
