"""Figures: one file each, `draw(...)` makes it from results and saves it."""
