"""`fleetgate admin`: a module for each group of things, one that runs them."""
