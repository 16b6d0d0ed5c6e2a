"""What is wrong with devices: incidents, the rules that open them, tickets about them, and notes."""
