"""The edge: owns HTTP. The hot path, the device API, the organization and partner API, metrics and health."""
