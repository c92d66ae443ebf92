"""From files to batches: annotation formats, images, splits, near-duplicates and the loader."""
