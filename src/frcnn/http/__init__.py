"""What the servers of `frcnn serve` and `frcnn annotate` have in common."""
