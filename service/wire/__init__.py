"""The DICOM wire: the listener, the sender, and the statuses they speak."""
