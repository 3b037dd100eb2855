"""Studies: plans, costs, tables, and runs that go on."""
