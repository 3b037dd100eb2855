"""PostgreSQL and Redis for tests: named by the environment, found on this machine, or started for the run."""
