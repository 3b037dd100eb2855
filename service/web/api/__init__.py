"""The REST API at ``/api/v1``: the pages' reads and actions, for programs, by a token for each client."""
