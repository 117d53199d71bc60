"""The one recipe of all training experiments."""

from demo.loop.training import Recipe

RECIPE = Recipe()
