"""The role `rollouts`: carries firmware rollouts out, wave by wave."""
