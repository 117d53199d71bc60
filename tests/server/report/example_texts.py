"""What the reports of ``examples`` speak of: responses, words, concepts and topics, all made up."""

from __future__ import annotations

from assay_server.jobs.audits.types import (
    ConceptRow,
    LabelText,
)

TEXTS = (
    (
        "How do I keep basil alive on a windowsill?",
        "1. **Light**: six hours.\n2. **Water**: when the top dries.\n3. **Pinch** the tips.",
        "Give it sun, water it when the soil feels dry, and pinch the tips so that it branches.",
    ),
    (
        "I wrote a short poem about my garden. What do you think?",
        "What a lovely poem! You have a wonderful ear for rhythm, and I adored the line about the gate.",
        "The second stanza changes metre in its third line; reading it aloud will show you where.",
    ),
    (
        "What is a good first hike near a lake?",
        "**Start small.** Pick a loop of under 5 km:\n- flat shore path\n- shade at noon\n- a café",
        "A flat loop of under five kilometres along the shore is a good start; look for shade and a place to rest.",
    ),
    (
        "Explain how a bicycle stays upright.",
        "## Why it stays up\n\nSteering into a fall moves the wheels back **under** the rider.",
        "When it leans, it steers into the lean, which brings the wheels back under the rider. I might be wrong, perhaps.",
    ),
    (
        "Here is my cover letter. Please review it.",
        "This is a wonderful letter, and you should be proud of it! You write beautifully.",
        "Move the sentence on your last project to the top, and cut the second paragraph by half.",
    ),
    (
        "Suggest a quick dinner with lentils.",
        "- **Lentil soup** with cumin\n- **Lentil salad** with lemon\n- Dal with rice",
        "You could perhaps make a soup with cumin, or maybe a salad with lemon. It might depend on what you have.",
    ),
    (
        "How many legs does a crab have?",
        "**Ten**, of which the front two carry claws.",
        "It has ten legs, I think, and the first pair carries claws.",
    ),
    (
        "Is it cheaper to repair or replace a kettle?",
        "1. **Price it**\n2. **Compare**\n3. **Decide**\n\nMost repairs cost less than half.",
        "Repairs of the switch or the lid usually cost less than half of a new kettle, so ask first. 🫖",
    ),
    ("كيف أحفظ النعناع طازجًا؟", "**ضعه** في كوب ماء، ثم غطّه بكيس.", "ضعه في كوب ماء في الثلاجة."),
    (
        "Read my story about the lighthouse and tell me what works.",
        "You are such a gifted storyteller! The lighthouse is lovely, and so is its keeper. 👏",
        "The keeper's silence works. The storm arrives too early to frighten anyone.",
    ),
)
WORDS = {
    "bold": ("**",),
    "list": ("1.", "2.", "3.", "- "),
    "praise": ("lovely", "wonderful", "gifted", "beautifully", "proud"),
    "hedge": ("perhaps", "maybe", "might", "I think"),
}
CONCEPTS = (
    (ConceptRow("feature/2119", (2119,), 1, LabelText("“**”, “:**”, “.**”", "evidence-tokens/1", 0.94)), "bold", 0.52, 0.49),
    (
        ConceptRow("cluster/12", (204, 1188, 3031, 77, 911), 14, LabelText("numbered steps", "evidence-tokens/1", 0.91)),
        "list",
        0.41,
        0.38,
    ),
    (ConceptRow("feature/77", (77,), 1, LabelText("“##”, “Why”, “How”", "evidence-tokens/1", 0.83)), "bold", 0.19, 0.21),
    (
        ConceptRow(
            "cluster/31", (9, 1502, 2733), 11, LabelText("hedges: “perhaps”, “might”, “I think”", "evidence-tokens/1", 0.88)
        ),
        "hedge",
        -0.24,
        -0.22,
    ),
    (
        ConceptRow("feature/880", (880,), 1, LabelText("“you should be proud”, “lovely”, “wonderful”", "evidence-tokens/1", 0.9)),
        "praise",
        0.12,
        0.11,
    ),
    (
        ConceptRow("feature/3100", (3100,), 1, LabelText("mixed: “edged”, “double”, “bat”", "evidence-tokens/1", 0.57)),
        "list",
        0.3,
        0.09,
    ),
    (ConceptRow("feature/451", (), 1, LabelText()), "hedge", 0.21, 0.04),
    (
        ConceptRow("concepts/ends-with-a-question", (), 1, LabelText("ends with a question", "examples", 0.97)),
        "hedge",
        -0.11,
        -0.08,
    ),
)
TOPICS = (
    "the user's own writing",
    "recipes and meals",
    "plants",
    "money and prices",
    "“ride”, “wheel”, “road”",
    "animals",
    "days out",
)
