"""How good a detector is: average precision, and its report."""
