"""The losses' one formula, one number at a time."""


def smooth_l1(difference: float, sigma: float) -> float:
    """Fast R-CNN, equation 3, with the sigma of its author's code."""
    if abs(difference) < 1 / sigma**2:
        return 0.5 * (sigma * difference) ** 2
    return abs(difference) - 0.5 / sigma**2
