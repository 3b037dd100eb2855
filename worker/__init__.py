"""The workers: analysis of a study with LiteGPT, the DICOM results, and their delivery."""
