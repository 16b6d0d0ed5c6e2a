"""What two processes must agree on: wire structs, Redis layout, settings, SQL schema. No business logic."""
