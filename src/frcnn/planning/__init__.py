"""`frcnn plan`: settings chosen from the data, each with its reason."""
