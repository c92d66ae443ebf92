"""From files to batches: formats, checks, images, the loader, and the built-in toy data set."""
