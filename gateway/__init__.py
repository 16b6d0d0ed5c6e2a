"""The edge: owns HTTP. The hot path, the device API, the organisation and partner API, metrics and health."""
