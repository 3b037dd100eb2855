"""``litegpt-node demo``: a modality, a node and a PACS on one machine, and one table of what came of it."""
