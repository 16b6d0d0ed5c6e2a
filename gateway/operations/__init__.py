"""What operators and load balancers read: health and metrics."""
