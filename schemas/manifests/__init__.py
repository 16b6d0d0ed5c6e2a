"""Manifests: what the importer must know of a vendor's cloud, as TOML."""
