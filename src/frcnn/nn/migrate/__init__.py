"""Detectors of other libraries as ours: their weights, and the settings that give the same detections."""
