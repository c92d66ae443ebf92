"""`frcnn check`: find errors and warnings in a data set before training."""
