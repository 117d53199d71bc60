"""Where labels come from: evidence, an OpenAI-compatible endpoint, or a Neuronpedia export (METHOD.md §2).

    firings         which of some features fires on which token of some texts
      evidence      the tokens that tell of a feature, a label of them, and how well they detect it on unseen texts
      contexts      stretches of text around firings, for people and for prompts
    prompts         what an endpoint is sent, and how its answer is read
      endpoint      the endpoint itself: HTTP with bounds, retries and usage counts
      explaining    labels and detection scores through it
    words           words for a group of features: clusters, data clusters
    neuronpedia     explanations exported from Neuronpedia

Invariants: a label carries its method and, where it was measured, a detection score on texts that it was not made from. Nothing
here is read by a test (import-linter holds ``assay_server.audit`` to it).
"""
