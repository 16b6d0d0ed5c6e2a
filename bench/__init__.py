"""How fast, and how we know."""
