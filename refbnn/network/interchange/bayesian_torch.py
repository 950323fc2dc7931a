"""bayesian-torch: the state dict of reparameterization or flipout layers.

    "fc1.mu_weight", "fc1.rho_weight"          dense layers
    "conv1.mu_kernel", "conv1.rho_kernel"      convolutions, called "conv1.weight" here
    "fc1.mu_bias", "fc1.rho_bias"              both

    σ = log1p(exp ρ) = softplus(ρ)

Older versions also save the buffers `eps_…` (a sample's noise) and `prior_…` (numbers that the
prior was filled with). Both are ignored; the prior is an argument of the layer's constructor.

Source: Krishnan, Esposito, Subedar, "Bayesian-Torch" (2022), release 0.5.0,
bayesian_torch/layers/variational_layers.

Accuracy: as in `refbnn.network.interchange.pyro`.
"""

from refbnn.network.interchange.state_dict import Convention
from refbnn.numerics.softplus import softplus

CONVENTION = Convention(
    library="bayesian-torch",
    pairs={
        "mu_weight": ("rho_weight", "weight"),
        "mu_kernel": ("rho_kernel", "weight"),
        "mu_bias": ("rho_bias", "bias"),
    },
    to_scale=softplus,
    ignored=("eps_", "prior_"),
)
