"""Synthetic frontal chest radiographs ("phantoms"): findings and boxes are known, as they were drawn."""
