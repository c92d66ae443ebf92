"""Export of a model to one file and verification of the file; a module for each target. `frcnn.inference.runtimes` runs
the files without torch."""
