"""Readers of chest radiograph datasets: each gives one ``Example`` an image, in LiteGPT's own vocabulary.

``catalogue`` names them. What is wrong with a dataset is counted in a ``Tally``, by kind, and either repaired
by the rule that ``problems.Kind`` states or refused: nothing is dropped without a word. No reader opens an
image.
"""
