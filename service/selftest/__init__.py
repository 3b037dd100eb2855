"""A self-test of a running node: ``study`` makes one up, ``course`` follows it, ``marks`` names it."""
