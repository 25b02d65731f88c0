"""Why methods that solve their lower level end, in words: what follows \"the method ended because\"."""

from __future__ import annotations

REASONS = {
    "budget": "its budget was spent",
    "stationary": "the hypergradient, its error included, is certified to be smaller than the tolerance",
    "estimated": "the hypergradient, its estimated error included, is smaller than the tolerance, which certifies"
    " nothing",
    "flat": "the hypergradient is smaller than the tolerance, its error not included",
    "floor": "more accuracy was needed than rounding allows",
    "kink": "no accuracy finds a step that provably lowers the upper level: where the lower level is not smooth,"
    " mostly a kink of the upper level, at which the active set changes",
    "pinned": "the hypergradient is zero: with these hyperparameters every parameter is zero or at a bound, and"
    " small changes of theirs move none; start from weaker ones",
    "searches": "too many searches in a row found no step that provably lowers the upper level",
    "lost": "no trainer was left",
}
