"""The identity provider that people may sign in at: OpenID Connect, from the side of who relies on it."""
