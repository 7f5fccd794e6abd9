"""How far two results are from each other."""

import math

import numpy as np


def relative(ours, theirs):
    """The largest difference relative to the largest value."""
    theirs = np.asarray(theirs, np.float64)
    scale = np.abs(theirs).max()
    difference = np.abs(np.asarray(ours, np.float64) - theirs).max()
    return float(difference / scale if scale > 0 else difference)


def relative_loss(ours, theirs, terms):
    """Relative to the loss, or to the sum of its absolute terms where these cancel. A term A * r has the gradient A * r by its log-prob."""
    difference, scale = abs(ours - theirs), max(abs(theirs), float(terms))
    return difference / scale if scale > 0 else difference


def worst_of(differences):
    """The largest of each name, over dictionaries of differences."""
    worst = {}
    for found in differences:
        for name, difference in found.items():
            if math.isnan(difference):
                raise ValueError(f"{name}: not a number")
            worst[name] = max(worst.get(name, 0.0), difference)
    return worst
