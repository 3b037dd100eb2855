"""Other people's DICOM programs, as peers of the node: dcmtk, dicom3tools, Orthanc."""
