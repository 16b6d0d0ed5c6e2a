"""Devices, vendors and receivers to try the gateway with."""
