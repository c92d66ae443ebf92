"""Work on data sets: check, annotate, convert, download, draw toy data."""
