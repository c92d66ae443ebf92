"""Detecting in images: the predictor, its runtimes, tiling, and the results. Only `evaluator` imports torch."""
