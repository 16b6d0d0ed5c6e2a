"""Everything that happens beside requests: storing what edges accepted, and what follows from the passing of time."""
