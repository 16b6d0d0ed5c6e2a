"""The kinds of callers: each proves itself in its own way, and says how the OpenAPI document describes that."""
