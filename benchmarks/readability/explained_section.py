"""The part of docs/readability.md on what findings and descriptors explain of a real preference."""

from __future__ import annotations

from typing import Any

from benchmarks.validity.sections import prose

_WHAT = {
    "length": "log token counts",
    "style": "length, and Chatbot Arena's counts with code blocks, as the audit has it",
    "surface features": "counts, shares and means by hand, six function words among them",
    "TF-IDF, 1-2 grams": "unit rows of log counts, words and pairs of words of two responses at least",
    "descriptors": "of each text descriptor whether, and the difference of log(1 + amount)",
    "descriptor and word findings": "descriptors and words at q up to 0.05 on the training prompts",
    "SAE findings": "features at q up to 0.05 on the training prompts",
    "SAE findings + descriptors": "both, fitted together",
    "SAE": "which features fire",
    "SAE over style": "the same with style as an offset",
    "SAE + descriptors": "both, fitted together",
    "dense": "mean residual at the SAE's hook, float32",
    "dense, standardised": "the same, each coordinate by its root mean square",
    "random dictionary": "which of as many random directions are among the k largest, under the SAE's own input",
    "random findings": "of these, at q up to 0.05 on the training prompts",
    "random findings + descriptors": "both, fitted together",
    "random dictionary over style": "the random dictionary with style as an offset",
}


def explained_section(raw: dict[str, Any]) -> list[str]:
    """Blocks, then differences."""
    lines = [
        "## Do findings and descriptors explain more than baselines?",
        "",
        *prose(f"""
            Held-out AUC of the real labels of {raw["pairs"]:,} pairs ({raw["prompts"]:,} prompts): {raw["folds"]} folds of whole
            prompts, the same for every row, {raw["repeats"]} divisions into folds, whose AUCs are averaged. Each row is an L2
            logistic model on differences, chosen minus rejected, without an intercept; its penalty, and what is selected, is
            chosen inside the training folds. Intervals draw prompts with replacement, {raw["draws"]} times, and keep the models.
            *Share* is (AUC − ½) / (AUC of dense − ½), where dense is a linear model on mean residuals: a row that
            has more than that, as texts have, may pass 100%. There are {raw["surface"]} surface features. Blocks were written
            down before the first figures; the standardised residual and the random dictionary's findings, which can only tell
            against the audit, were added after them.
        """),
        "",
        "| predicted from | what it is | columns | AUC (95%) | share (95%) |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, entry in raw["blocks"].items():
        auc = "{:.3f} ({:.3f} to {:.3f})".format(entry["auc"], *entry["interval"])
        share = "{:.0%} ({:.0%} to {:.0%})".format(entry["share"], *entry["share_interval"])
        lines.append(f"| {name} | {_WHAT[name]} | {entry['columns']:,.0f} | {auc} | {share} |")
    lines += ["", "| difference of AUC | value (95%, paired) |", "| --- | ---: |"]
    for name, entry in raw["differences"].items():
        lines.append("| {} | {:+.3f} ({:+.3f} to {:+.3f}) |".format(name, entry["value"], *entry["interval"]))
    return [*lines, "", *prose(_says(raw))]


def _says(raw: dict[str, Any]) -> str:
    """What is sure, and what is not."""
    sure = [name for name, entry in raw["differences"].items() if entry["interval"][0] > 0]
    unsure = [name for name, entry in raw["differences"].items() if entry["interval"][0] <= 0 <= entry["interval"][1]]
    against = [name for name, entry in raw["differences"].items() if entry["interval"][1] < 0]
    said = f"Sure, in that the interval lies over 0: {'; '.join(sure) or 'none'}. Not sure: {'; '.join(unsure) or 'none'}."
    if against:
        said += f" The other way round: {'; '.join(against)}."
    if any(name.startswith("SAE − random") for name in unsure):
        said += (
            " So nothing shows on these pairs that all that the SAE learnt, taken together, predicts more of the preference than"
            " a random dictionary of its shape, which reads the same residuals under the same input."
        )
    if any(name.startswith("SAE findings − random") for name in sure):
        said += " Its findings predict more than the random dictionary's."
    return said
