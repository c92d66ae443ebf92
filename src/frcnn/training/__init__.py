"""Training: targets and losses around the detector's own modules, and one loop."""
