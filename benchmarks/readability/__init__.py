"""Whether a reader finds what a dataset teaches (``python -m benchmarks.readability --pairs FILE``).

    naming        sixteen edits written into real responses: is each among the first ten things that the audit tells?
    conditional   six edits written only where the metadata says one topic: is the edit named under that condition?
    calibration   labels swapped at random: how often is anything found, family by family?

What counts as naming an edit is written down in `expected.py`, which was committed before any result. Pairs come by path and stay
there: result files and the page hold figures, names of descriptors and words of the edits, and no text of any pair.
"""
