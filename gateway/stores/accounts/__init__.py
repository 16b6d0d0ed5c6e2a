"""Who may call: keys, service accounts, members; and the secrets at rest."""
