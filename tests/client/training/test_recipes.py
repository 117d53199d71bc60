"""The recipes of docs/, block by block, against the installed libraries and a real server: what a reader types is what runs."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from assay import Intervene, InterventionFamily, InterventionMode, Plan
from torch.nn.functional import logsigmoid

from tests.client.training.conftest import Served
from tests.client.training.policies import make_pairs
from tests.support.tiny_subject import build_parts

DOCS = Path(__file__).parents[3] / "docs"
SETTINGS = {
    "per_device_train_batch_size": 4,
    "max_steps": 1,
    "bf16": False,
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}


def blocks(page: str) -> list[str]:
    """The page's blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module to run blocks in, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("recipe")
    monkeypatch.setitem(sys.modules, "recipe", module)
    return module


def run(block: str, module: ModuleType) -> None:
    exec(compile(block, f"<{block.strip().splitlines()[0]}>", "exec"), module.__dict__)


def test_every_block_of_the_trl_recipe_runs(served: Served, tmp_path: Path, page: ModuleType) -> None:
    yours, *rest = blocks("recipes-trl.md")
    run(yours, page)
    theirs = set(vars(page))
    model, tokenizer, _ = build_parts()
    tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(True).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    _write_pairs(tmp_path / "pairs.jsonl")
    mine: dict[str, Any] = {
        "address": served.address,
        "model_name": str(tmp_path / "model"),
        "file": str(tmp_path / "pairs.jsonl"),
        "about": "feature/8",
        "settings": SETTINGS,
    }
    assert set(mine) == {name for name in theirs if not name.startswith("__")}
    vars(page).update(mine)
    trained: list[int] = []
    for block in rest:
        run(block, page)
        if "trainer.train()" in block:
            trained.append(vars(page)["trainer"].state.global_step)
    assert trained == [1] * 6
    assert vars(page)["edit"].tokens > 0


def test_the_open_instruct_recipe_shifts_its_cache_to_the_offset_inside_the_sigmoid(
    served: Served, tmp_path: Path, page: ModuleType
) -> None:
    plan: Plan = served.plans(Intervene("feature/8", InterventionMode.EXPLAIN_AWAY, 2.0, InterventionFamily.REWARD_SHAPING))
    beta, file = 0.1, tmp_path / "cache.pt"
    generator = torch.Generator().manual_seed(0)
    before = {name: -50 * torch.rand(40, generator=generator) for name in ("chosen_logps", "rejected_logps")}
    torch.save({name: values.clone() for name, values in before.items()}, file)
    vars(page).update(address=served.address, plan=plan, pairs=served.pairs, beta=beta, cache_file=str(file))
    for block in blocks("recipes-open-instruct.md"):
        run(block, page)
    after = torch.load(file, weights_only=True)
    policy = {name: (values + 1.5).double() for name, values in before.items()}

    def losses(reference: dict[str, Any]) -> Any:
        """open-instruct's dpo_loss."""
        delta = policy["chosen_logps"] - policy["rejected_logps"] - (reference["chosen_logps"] - reference["rejected_logps"])
        return -logsigmoid(beta * delta)

    offsets = torch.tensor([one.offset for one in vars(page)["offsets"]], dtype=torch.float64)
    delta = policy["chosen_logps"] - policy["rejected_logps"] - (before["chosen_logps"] - before["rejected_logps"])
    assert offsets.abs().max() > 0
    torch.testing.assert_close(losses(after), -logsigmoid(beta * delta + offsets), atol=1e-6, rtol=0)


def _write_pairs(path: Path) -> None:
    import json

    lines = [
        json.dumps(
            {
                "id": pair.id,
                "prompt": [{"role": one.role, "content": one.content} for one in pair.prompt if not isinstance(one, str)],
                "chosen": pair.chosen,
                "rejected": pair.rejected,
            }
        )
        for pair in make_pairs(24, seed=4)
    ]
    path.write_text("\n".join(lines))
