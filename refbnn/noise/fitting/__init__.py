"""Fit a law to measurements by maximum likelihood, with evidence that can refute it.

`sample` checks and shortens what was measured; `normals`, `heavy` and `bounded` search one family
each; `evidence` tells how well the parameters are known and whether the law is refuted;
`selection` chooses; `result` is what comes out.
"""

from refbnn.noise.fitting.placing import FAMILIES
from refbnn.noise.fitting.result import REFUTED, Candidate, NoiseFit, Parameter
from refbnn.noise.fitting.sample import MIN_DISTINCT
from refbnn.noise.fitting.selection import fit

__all__ = ["FAMILIES", "MIN_DISTINCT", "REFUTED", "Candidate", "NoiseFit", "Parameter", "fit"]
