"""What needs a cluster of Citus servers: run where FLEETGATE_TEST_CITUS names its coordinator."""
