"""docker-compose.yml, read and run on this machine without Docker."""
