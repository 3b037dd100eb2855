"""Synthetic frontal chest radiographs ("phantoms") whose findings and boxes are known because they were drawn."""
