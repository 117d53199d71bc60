"""Interventions: decisions compiled into what a trainer applies unchanged (METHOD.md §4).

Pure arithmetic, float64 in and out: ``zscore``, ``offsets``, ``shifts``, ``weights``, ``filters``, ``token_masks``, ``vectors``,
``expectations``, ``dose``. What needs the model or the store: ``scores``, ``plans``, ``compile``, ``jobs``.
"""
