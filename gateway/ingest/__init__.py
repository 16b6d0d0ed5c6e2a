"""The hot path: telemetry from the socket into Redis."""
