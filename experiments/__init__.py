"""What the demo and the benchmarks share, so that neither imports the other.

| module     | holds                                                              |
|------------|--------------------------------------------------------------------|
| `results`  | figures, their bars, and the form of a result file                 |
| `training` | DPO of a small policy, with or without a plan                      |
| `policies` | what a policy writes, and how likely it finds texts                |
| `plans`    | from a plan on the server to what a training takes of it           |
"""
