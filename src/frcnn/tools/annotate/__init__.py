"""A page in the browser on which boxes are drawn."""
