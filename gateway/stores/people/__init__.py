"""People who sign in: who they are, their sessions, and the links by which they come."""
