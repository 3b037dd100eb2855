"""Reports read back, ours and others': any TID 1500 Structured Report, printed, drawn, and compared."""
