"""The sample preference pairs: their prompts, the rule that labels them, and the recipe that samples them."""
