"""Imports the devices of vendors' clouds into projects, by comparing complete lists."""
