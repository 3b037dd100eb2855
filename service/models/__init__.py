"""The models of a node: which there are, which of them reads what comes, and what each has read."""
