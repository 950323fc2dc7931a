"""Names of the likelihoods a network is trained with, by what it answers (`refbnn.training`).

Light to import: the command line and prediction ask for them too.
"""

OF_CLASSES = ("categorical", "bernoulli")
OF_TARGETS = ("gaussian", "energy")
