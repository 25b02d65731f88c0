"""Entries without a loop, and why. A new entry has a loop in its family's file, or its reason stands here."""

WITHOUT = {
    "participation_pruning": (
        "the authors prune networks of modular arithmetic that have been trained, without a loop of their own;"
        " tests/objectives/regularizers/structure/test_participation_pruning.py checks which neurons go"
    ),
}
