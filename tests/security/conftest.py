"""A running edge, and tenants that attack each other."""

from tenants import acme, edge, globex

__all__ = ["acme", "edge", "globex"]
