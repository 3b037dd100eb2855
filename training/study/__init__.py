"""Experiments: many runs from one shared pre-training, compared in one table."""
