"""SQL of the edge, one module a table or a small group of tables."""
