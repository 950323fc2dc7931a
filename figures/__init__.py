"""Figures and tables, one file each: `refbnn figures NAME` runs `figures/NAME.py`.

Each has `make(folder, seed, mc_samples, tick)`, which saves its pictures in `folder`, calls `tick`
with a word after each of `STEPS` steps, and returns the numbers shown, for JSON. Start with
`variance_forms`. `support/` holds what figures share; `pictures/` what other commands draw.
"""
