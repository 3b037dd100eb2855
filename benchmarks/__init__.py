"""How fast it is: measured beside a peer in the same run, and beside what the machine allows at most."""
