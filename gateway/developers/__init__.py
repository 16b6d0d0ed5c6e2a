"""What makers and integrators are given to begin with, made from the API itself."""
