"""LiteGPT: a chest radiograph goes in, findings with boxes and diagnoses come out.

This package holds the model (arXiv 2407.12064) and nothing about nodes, queues or databases. Importing it
imports nothing; the rooms ``vocabulary``, ``boxes``, ``findings``, ``identity``, ``attributes``,
``radiograph``, ``overlay``, ``phantoms`` and ``errors`` never load torch.
"""
