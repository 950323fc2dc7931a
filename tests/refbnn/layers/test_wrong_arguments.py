"""Wrong arguments of layers and priors: one InputError, one line, that names the argument."""

# mypy: disable-error-code="arg-type, list-item"
# Wrong types are the subject.

import numpy as np
import pytest

from refbnn import InputError
from refbnn.layers import (
    ELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    LeakyReLU,
    MaxPool2d,
    Normalise,
    Residual,
)
from refbnn.noise import DeviceLaw, Gaussian
from refbnn.prior import (
    DevicePrior,
    GaussianPrior,
    LaplacePrior,
    ScaleMixturePrior,
    StudentTPrior,
)

ONE = np.ones(2)
MASKED = np.ma.array(ONE, mask=[True, False])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dense("3", 2), "Dense: in_features is '3'; expected a whole number"),
        (lambda: Conv2d(3, 4, 3, groups=2), "expected channels that are multiples of groups"),
        (
            lambda: Conv2d(3, 4, 3, padding="same"),
            "Conv2d: padding is 'same'; .* or a pair",
        ),
        (lambda: Conv2d(3, None, 3), "Conv2d: out_channels is None"),
        (lambda: AvgPool2d((2, "a")), r"AvgPool2d: kernel_size is \(2, 'a'\)"),
        (lambda: MaxPool2d(2, method="exakt"), "MaxPool2d: method 'exakt' is unknown; .*window"),
        (lambda: MaxPool2d(2, method=["tree"]), r"method \['tree'\] is unknown"),
        (lambda: LeakyReLU("a"), "LeakyReLU: slope is 'a'; expected a finite number"),
        (lambda: LeakyReLU(1j), "LeakyReLU: slope is 1j"),
        (lambda: ELU(np.nan), "ELU: alpha is nan; expected a finite number"),
        (lambda: ELU(np.ones(3)), r"ELU: alpha is an array of shape \(3,\)"),
        (lambda: Residual(Dense(3, 3)), r"Residual: layers is Dense\(3, 3\); expected a list"),
        (lambda: Residual([Dense]), "Residual: layer 0 is the class Dense; expected a Layer"),
        (lambda: Residual([]), "Residual: no layers"),
        (lambda: Normalise("a", 1.0), "Normalise: mean is of type"),
        (lambda: Normalise(0.0, np.nan), "Normalise: sd holds NaN or infinity"),
        (lambda: Normalise(MASKED, ONE), "Normalise: mean has masked entries"),
        (lambda: BatchNorm2d("a", ONE, ONE, ONE), "BatchNorm2d: mean is of type"),
        (lambda: BatchNorm2d(ONE, ONE, None, ONE), "BatchNorm2d: gamma is None"),
        (lambda: BatchNorm2d(ONE, MASKED, ONE, ONE), "BatchNorm2d: var has masked entries"),
        (lambda: BatchNorm2d(ONE, ONE, ONE, ONE, "a"), "BatchNorm2d: eps is 'a'"),
        (lambda: GaussianPrior("a"), "GaussianPrior: scale is 'a'; expected a finite number above"),
        (lambda: GaussianPrior(ONE), r"GaussianPrior: scale is an array of shape \(2,\)"),
        (lambda: LaplacePrior(None), "LaplacePrior: scale is None"),
        (lambda: StudentTPrior(dof="3"), "StudentTPrior: dof is '3'"),
        (lambda: ScaleMixturePrior("a"), "ScaleMixturePrior: share is 'a'"),
        (lambda: ScaleMixturePrior(1.0), "ScaleMixturePrior: share is 1.0; expected between"),
        (lambda: DevicePrior(Gaussian()), "DevicePrior: law is Gaussian.*; expected a DeviceLaw"),
        (lambda: DevicePrior(DeviceLaw), "DevicePrior: law is the class DeviceLaw"),
        (lambda: DevicePrior(DeviceLaw(0.0, 0.0), mean="a"), "DevicePrior: mean is 'a'"),
    ],
)
def test_one_line_names_the_argument(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_fields_of_priors_are_plain_floats():
    """A float64 of NumPy would turn float32 weights into float64."""
    for prior in (GaussianPrior(np.float64(0.5)), LaplacePrior(np.array(0.5))):
        assert type(prior.scale) is float
        assert prior.score(np.ones(1, np.float32)).dtype == np.float32
