"""torchbnn: the state dict of `BayesLinear` and `BayesConv2d`.

    "fc1.weight_mu", "fc1.weight_log_sigma", "fc1.bias_mu", "fc1.bias_log_sigma"

    σ = exp(log σ)

Buffers `weight_eps` and `bias_eps`, the noise of a frozen sample, are ignored; the prior is an
argument of the layer's constructor and not saved.

Source: Harry Kim, torchbnn 1.2, torchbnn/modules/linear.py, conv.py.
"""

from refbnn.network.interchange.sites import exponential
from refbnn.network.interchange.state_dict import Convention

CONVENTION = Convention(
    library="torchbnn",
    pairs={
        "weight_mu": ("weight_log_sigma", "weight"),
        "bias_mu": ("bias_log_sigma", "bias"),
    },
    to_scale=exponential,
    ignored=("weight_eps", "bias_eps"),
)
