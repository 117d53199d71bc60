"""The statistics of an audit: pure functions over arrays, after METHOD.md §3 and §5.

Invariants of the whole package:

- No torch, no transport, no input or output: numpy and scipy in, frozen dataclasses out.
- Every statistic is computed from sums that merge: shards in any order give one answer, exactly where the terms are
  integers (disparities are integers over t_m) and within rounding elsewhere.
- No result holds a NaN. What cannot be estimated or tested says why in `reason`, with p = 1 and effect 0 in its place.
- Every random choice has a seed.
"""
