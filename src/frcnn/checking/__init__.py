"""What would spoil a training, found before it: `frcnn check`."""
