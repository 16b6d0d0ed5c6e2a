"""A running edge, and tenants."""

from tenants import acme, edge, globex

__all__ = ["acme", "edge", "globex"]
