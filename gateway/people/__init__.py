"""People as themselves: how they come in, and what they do with their own accounts. Pages and clients use it."""
