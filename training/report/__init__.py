"""A page that shows how a model was trained and how it reads, for a person to look at."""
