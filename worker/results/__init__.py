"""The DICOM results of an analysis: what they say, in which codes, and under which UIDs."""
