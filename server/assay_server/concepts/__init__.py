"""Concepts as pure functions over arrays: probes from examples, and clusters of features (METHOD.md §2).

    probes          a direction from examples or from pairs
      examples      rows that show a concept and rows that do not, with the prompt of each
      splits        which of them are fitted on and which are held out
      solvers       the two convex fits: logistic and Bradley-Terry
      regularisation  how strongly to penalise them
    selection       the features that tell examples apart
    measuring       how well a direction or a set of features does on held-out examples, beside random ones
      metrics       AUROC, average precision, best F1
    neighbours      which decoder rows lie nearest to a direction
    clusters        communities of features
      cofiring      which features fire on the same samples, as the strongest edges of a graph

Invariants: no I/O, no model, no transport; inputs are never written to; the same arrays and seed give the same bits on
one machine; what cannot be answered raises ``InvalidItem`` with the numbers, and NaN is never returned.
"""
