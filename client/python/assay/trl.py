"""Plans for TRL's trainers, unchanged: needs ``pip install 'assay[trl]'`` (torch, transformers, trl 1.16; peft where it is used).

| function          | for                | does                                                                               |
|-------------------|--------------------|------------------------------------------------------------------------------------|
| `shift_reference` | DPOTrainer         | offsets inside the sigmoid, by a shift of the precomputed reference                |
| `reward_margins`  | RewardTrainer      | offsets as margins                                                                 |
| `PlanReward`      | GRPOTrainer        | r' = r - lambda z(s) as a reward callable                                          |
| `apply_plan`      | a dataset          | drops, flips, inoculation, and columns for the rest                                |
| `PlanDPOTrainer`  | such a dataset     | weights, token masks, a prompt for the policy alone                                |
| `edited_rows`     | `assay.hooks`      | which training rows a steering vector is for                                       |
| `preference_rows`, `pairs_of` |        | pairs to TRL's rows, and back                                                      |
| `plan_target`     | any                | fingerprints of model, tokenizer and data; refuses what the plan was not made for  |

    trainer = DPOTrainer(model, args=DPOConfig(precompute_ref_log_probs=True, beta=0.1, ...), train_dataset=dataset, ...)
    shift_reference(trainer, list(client.offsets(plan, pairs_of(dataset))))
    trainer.train()

Hooks in the policy's forward pass are in `assay.hooks`. docs/recipes-trl.md shows every family.
"""

from assay.errors import MissingExtra

try:
    import trl as _  # noqa: F401 # pyright: ignore[reportUnusedImport]
except ImportError as error:  # pragma: no cover - an environment without the extra
    raise MissingExtra(
        f"assay.trl takes torch, transformers and trl ({error.name or error} is missing): pip install 'assay[trl]'",
        reason="MISSING_EXTRA",
        details={"extra": "trl"},
    ) from None

from assay.intervention_fingerprints import check_target, dataset_fingerprint
from assay.trl_data import apply_plan, inoculated, pairs_of, preference_rows
from assay.trl_offsets import reward_margins, shift_reference
from assay.trl_rewards import PlanReward
from assay.trl_targets import model_fingerprint, plan_target, tokenizer_fingerprint
from assay.trl_trainer import PlanCollator, PlanDPOTrainer, edited_rows

__all__ = [
    "PlanCollator",
    "PlanDPOTrainer",
    "PlanReward",
    "apply_plan",
    "check_target",
    "dataset_fingerprint",
    "edited_rows",
    "inoculated",
    "model_fingerprint",
    "pairs_of",
    "plan_target",
    "preference_rows",
    "reward_margins",
    "shift_reference",
    "tokenizer_fingerprint",
]
