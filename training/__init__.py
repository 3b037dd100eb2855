"""Training LiteGPT: phantoms to learn from, the stages, and the measures of what was learnt."""
