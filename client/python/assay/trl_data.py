"""A data plan applied to a dataset in TRL's preference format, before a trainer is built on it.

    dataset = Dataset.from_list(preference_rows(pairs))                 prompt, chosen, rejected, id, metadata
    client.upload_pairs(pairs_of(dataset))                              what the plan is made for
    dataset = apply_plan(dataset, client.data_plan(plan))

| column, as needed                       | says                                                                             |
|-----------------------------------------|----------------------------------------------------------------------------------|
| assay_row                               | the row of the dataset that the plan counts in                                   |
| assay_weight                            | w of the loss; rows of weight 0 are gone                                         |
| assay_offset_chosen, _rejected          | o+ and o- of stored scores, or `offsets`: `shift_reference` takes them           |
| assay_chosen_mask, assay_rejected_mask  | places among the response's tokens that take no part in the loss                 |
| assay_chosen_tokens, assay_rejected_... | tokens of the response, as the subject's tokenizer cuts it                       |
| assay_plain_prompt                      | the prompt without inoculation, for the reference                               |
| assay_steered_by                        | names of the STEERING_VECTOR interventions that flag the row                     |

A plain trl.DPOTrainer takes filters and flips as they are, and offsets by `shift_reference`. Weights other than 0 and 1, token
masks and a prompt for the policy alone are what `PlanDPOTrainer` adds; a plain trainer reads the inoculated prompt with its
reference too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from assay.errors import InvalidRequest
from assay.intervention_data import DataPlan
from assay.intervention_fingerprints import check_target, dataset_fingerprint
from assay.intervention_results import DataPlanRow, InoculationText, PlanTarget, TokenMask
from assay.interventions import PromptPlacement
from assay.pairs import Message, Pair, Prompt
from assay.trl_offsets import CHOSEN, REJECTED, ROW, OffsetSource, aligned, column, names_of, with_columns
from assay.trl_targets import matching_tokenizer_fingerprint

WEIGHT, PLAIN_PROMPT, STEERED_BY = "assay_weight", "assay_plain_prompt", "assay_steered_by"
MASKS = ("assay_chosen_mask", "assay_rejected_mask")
TOKENS = ("assay_chosen_tokens", "assay_rejected_tokens")


def apply_plan(
    dataset: Any,
    data_plan: DataPlan,
    *,
    offsets: OffsetSource | None = None,
    tokenizer: Any = None,
    check: bool = True,
) -> Any:
    """The dataset after a data plan: rows dropped and flipped, prompts inoculated, and the columns of the table above.

    A flip swaps responses, and with them their offsets and masks. Pairs that the plan could not use stay as they are.

    Args:
        dataset: a datasets.Dataset or a list of dictionaries with "chosen" and "rejected", texts or conversations, and "prompt"
            or not; row for row the dataset that the plan was made for. One that was cut down since has the column "assay_row".
        data_plan: what `Client.data_plan` gives.
        offsets: of the dataset's rows, as `shift_reference` takes them, for the columns in place of the data plan's: those of
            STEERING and INOCULATION come from `Client.offsets` alone, which gives the sum over all offset families.
        tokenizer: the trainer's; must be the plan's where the plan masks tokens, and is compared whenever it is given.
        check: whether to compare fingerprints and ids with the plan's.

    Raises:
        InvalidRequest: DATASET_MISMATCH or TOKENIZER_MISMATCH, with both fingerprints; ROW_MISSING; a row's own error where the
            server could not make its masks.
    """
    data_plan = data_plan.load()
    rows = {row.row: row for row in data_plan}
    places = [int(one) for one in column(dataset, ROW)] if ROW in names_of(dataset) else list(range(len(dataset)))
    if check:
        _check(dataset, data_plan, places, rows, tokenizer)
    here = [rows.get(place, DataPlanRow(place, "")) for place in places]
    failed = next((row.error for row in here if row.error is not None), None)
    if failed is not None:
        raise failed.exception()
    kept = [at for at, row in enumerate(here) if row.weight != 0]
    data = cast("list[Any]", dataset)
    sides = [(row.offset_chosen, row.offset_rejected) for row in here]
    if offsets is not None:
        sides = list(zip(*aligned(dataset, offsets), strict=True))
    dataset = [data[at] for at in kept] if isinstance(dataset, list) else dataset.select(kept)
    rows_kept = [here[at] for at in kept]
    return with_columns(dataset, _columns(dataset, rows_kept, [sides[at] for at in kept], data_plan.texts))


def preference_rows(pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """Pairs as rows of TRL's preference format, conversational where the prompt is, for ``Dataset.from_list``."""
    return [
        {
            "id": pair.id,
            "prompt": pair.prompt if isinstance(pair.prompt, str) else [_turn(one.role, one.content) for one in pair.prompt],
            "chosen": pair.chosen if isinstance(pair.prompt, str) else [_turn("assistant", pair.chosen)],
            "rejected": pair.rejected if isinstance(pair.prompt, str) else [_turn("assistant", pair.rejected)],
            "metadata": dict(pair.metadata),
        }
        for pair in pairs
    ]


def pairs_of(dataset: Iterable[Mapping[str, Any]]) -> Iterator[Pair]:
    """Rows in TRL's preference format as pairs: what to upload, and what to ask offsets of.

    Columns "id" and "metadata" are taken along where they are there; they count in the dataset's fingerprint.

    Raises:
        InvalidRequest: UNSUPPORTED_ROW: a response is not one assistant turn.
    """
    for at, row in enumerate(dataset):
        prompt, chosen, rejected = _sides(row)
        metadata = {str(key): str(value) for key, value in dict(row.get("metadata") or {}).items() if value is not None}
        yield Pair(
            _prompt(prompt), _response(chosen, at), _response(rejected, at), id=str(row.get("id") or ""), metadata=metadata
        )


def inoculated(prompt: Any, text: InoculationText) -> Any:
    """A prompt, a text or turns, with a text that asks for the concept in it; as the server puts it."""
    if isinstance(prompt, str):
        return f"{text.text}\n\n{prompt}"
    turns = [_turn(one["role"], one["content"]) for one in prompt]
    if text.placement is PromptPlacement.SYSTEM:
        if turns and turns[0]["role"] == "system":
            return [_turn("system", f"{turns[0]['content']}\n\n{text.text}"), *turns[1:]]
        return [_turn("system", text.text), *turns]
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=len(turns) - 1)
    turns[last] = _turn(turns[last]["role"], f"{text.text}\n\n{turns[last]['content']}")
    return turns


def _columns(
    dataset: Any, rows: Sequence[DataPlanRow], sides: Sequence[tuple[float, float]], texts: Sequence[InoculationText]
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        ROW: [row.row for row in rows],
        WEIGHT: [row.weight for row in rows],
        CHOSEN: [_flipped(row, both)[0] for row, both in zip(rows, sides, strict=True)],
        REJECTED: [_flipped(row, both)[1] for row, both in zip(rows, sides, strict=True)],
    }
    if any(row.steered_by for row in rows):
        columns[STEERED_BY] = [list(row.steered_by) for row in rows]
    if any(row.chosen_mask is not None for row in rows):
        masks = [_flipped(row, (row.chosen_mask, row.rejected_mask)) for row in rows]
        for side, (places, counts) in enumerate(zip(MASKS, TOKENS, strict=True)):
            columns[places] = [_places(both[side]) for both in masks]
            columns[counts] = [-1 if both[side] is None else cast(TokenMask, both[side]).of for both in masks]
    if any(row.flip or row.texts for row in rows):
        columns |= _texts(dataset, rows, texts)
    return columns


def _texts(dataset: Any, rows: Sequence[DataPlanRow], texts: Sequence[InoculationText]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"prompt": [], "chosen": [], "rejected": []}
    plain: list[Any] = []
    for row, example in zip(rows, dataset, strict=True):
        prompt, chosen, rejected = _sides(example)
        plain.append(prompt)
        for place in row.texts:
            prompt = inoculated(prompt, texts[place])
        columns["prompt"].append(prompt)
        for name, response in zip(("chosen", "rejected"), _flipped(row, (chosen, rejected)), strict=True):
            columns[name].append(response)
    if any(row.texts for row in rows):
        columns[PLAIN_PROMPT] = plain
    return columns


def _check(dataset: Any, data_plan: DataPlan, places: Sequence[int], rows: Mapping[int, DataPlanRow], tokenizer: Any) -> None:
    """The whole dataset by its fingerprint; one that was cut down by the ids of what is left."""
    whole = ROW not in names_of(dataset)
    met = PlanTarget(
        dataset_fingerprint=dataset_fingerprint(pairs_of(dataset)) if whole else "",
        tokenizer_fingerprint=matching_tokenizer_fingerprint(tokenizer, data_plan.tokenizer_fingerprint) if tokenizer else "",
    )
    check_target(data_plan, met)
    if whole:
        return
    ids = [str(one or "") for one in column(dataset, "id")] if "id" in names_of(dataset) else []
    for place, id in zip(places, ids, strict=False):
        if place in rows and rows[place].id != id:
            raise InvalidRequest(
                f"row {place} of the dataset has the id {id!r}, and {data_plan.plan} knows it as {rows[place].id!r}: it was made "
                "for another dataset",
                reason="DATASET_MISMATCH",
                details={"row": str(place), "plan_dataset_fingerprint": data_plan.dataset_fingerprint},
            )


def _sides(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Prompt, chosen and rejected; a prompt that stands in front of both responses is taken out by TRL's own rule."""
    if "prompt" not in row:
        from trl import extract_prompt

        row = extract_prompt(dict(row))
    return row["prompt"], row["chosen"], row["rejected"]


def _flipped(row: DataPlanRow, both: tuple[Any, Any]) -> tuple[Any, Any]:
    return (both[1], both[0]) if row.flip else both


def _places(mask: TokenMask | None) -> list[int]:
    return [] if mask is None else list(mask.tokens)


def _prompt(prompt: Any) -> Prompt:
    return prompt if isinstance(prompt, str) else tuple(Message(str(one["role"]), str(one["content"])) for one in prompt)


def _response(response: Any, at: int) -> str:
    if isinstance(response, str):
        return response
    if len(response) != 1 or response[0]["role"] != "assistant":
        roles = ", ".join(str(one["role"]) for one in response)
        raise InvalidRequest(
            f"row {at} has a response of turns [{roles}]; Assay reads responses that are one assistant turn",
            reason="UNSUPPORTED_ROW",
            details={"row": str(at)},
        )
    return str(response[0]["content"])


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
