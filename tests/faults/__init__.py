"""Faults at chosen moments: a part of the node, its database or its broker is killed where it hurts."""
