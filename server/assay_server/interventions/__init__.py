"""Interventions: decisions compiled into what a trainer applies unchanged (METHOD.md §4).

Pure arithmetic, float64 in and out: ``zscore``, ``offsets``, ``shifts``, ``weights``, ``filters``, ``token_masks``, ``vectors``,
``expectations``, ``dose``. What needs features or the model: ``targets``, ``compile``, ``reading``, ``sweep``,
``apply``, ``data_plan``. ``jobs.plans`` keeps plans and serves them.
"""
