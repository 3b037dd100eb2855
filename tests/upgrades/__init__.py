"""Databases of each schema and of each release, taken up to the present one and back."""
