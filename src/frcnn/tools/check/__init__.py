"""Find what would spoil a training: `frcnn check`."""
