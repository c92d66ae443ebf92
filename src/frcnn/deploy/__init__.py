"""One file that runs anywhere: writing it, one module for each target, and proving that it is the same model. Running
such files, which needs no torch, is `frcnn.detectors`."""
