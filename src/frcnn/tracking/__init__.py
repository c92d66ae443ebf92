"""Following objects through the frames of a video, and counting them. It imports no torch."""
