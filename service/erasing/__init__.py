"""Erasing a patient: finding what the node holds of one, what stands against it, and removing all of it."""
