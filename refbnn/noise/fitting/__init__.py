"""Fit a law to measurements by maximum likelihood, with evidence that can refute it.

Start with `selection`, which chooses among families. `sample` checks and shortens measurements;
`normals`, `heavy` and `bounded` search one family each; `evidence` computes standard errors and the
test; `result` holds the outcome.
"""

from refbnn.noise.fitting.placing import FAMILIES
from refbnn.noise.fitting.result import REFUTED, Candidate, NoiseFit, Parameter
from refbnn.noise.fitting.selection import fit

__all__ = ["FAMILIES", "REFUTED", "Candidate", "NoiseFit", "Parameter", "fit"]
