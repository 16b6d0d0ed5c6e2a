"""`fleetgate up`: the whole stack on this machine, with embedded servers and a demo tenant."""
