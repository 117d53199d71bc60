"""Whether the audit's statistics can be trusted: experiments with known truth (``python -m benchmarks.validity --pairs FILE``).

    calibration   all nulls true: labels swapped at random, or made from length alone
    power         concepts written into real responses: does the audit find them, and where do they rank?
    conditional   written only where the prompt is about one topic: does the prompt-conditioned view name both sides?
    explained     how much of the preference do the audit's concepts carry, beside other ways of describing pairs?
    agreement     every statistic against a slow, independent computation

Pairs come by path and stay there: result files and the page hold figures, and no text of any pair.
"""
