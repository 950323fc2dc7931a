"""Files that an earlier version wrote load, and compute what they computed there.

`tests/data/earlier/README.md` says where the files come from.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from kernels.devices.targets import target
from kernels.program import records
from kernels.program.program import Step
from kernels.tuning.journal import Journal
from refbnn import InputError, Moments, Network, load, save, train
from refbnn.layers import Dense, ReLU
from refbnn.noise import HeavyTailed, load_law, save_law
from refbnn.prior import GaussianPrior

EARLIER = Path(__file__).resolve().parents[1] / "data" / "earlier"
NETWORKS = (
    "mlp",
    "device_law_laplace_prior",
    "heavy_tailed_student_prior",
    "mixture_scale_mixture_prior",
    "device_prior",
    "images",
    "correlated",
)
FAMILIES = ("Gaussian", "Bimodal", "Mixture", "DeviceLaw", "HeavyTailed", "DensityLaw")
# The run of `unfinished.npz`.
OPTIONS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 16,
    "n_samples": 2,
    "learning_rate": 0.02,
    "kl_warmup": 2,
    "clip_norm": 50.0,
    "dtype": "float64",
    "seed": 4,
}


def expected(path: str, name: str) -> dict[str, np.ndarray]:
    """Arrays of one network or law."""
    with np.load(EARLIER / path) as arrays:
        return {
            key.removeprefix(f"{name}/"): arrays[key]
            for key in arrays.files
            if key.startswith(f"{name}/")
        }


def assert_equal_but_for_rounding(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    """Sums of at most 18 numbers of size 1 to 10 may have another order on another processor."""
    assert got.keys() == want.keys()
    for key, values in got.items():
        np.testing.assert_allclose(values, want[key], rtol=1e-12, atol=1e-13, err_msg=key)


def members(path: Path) -> dict[str, bytes]:
    """Arrays of a checkpoint, and its header, as bytes."""
    with np.load(path) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_holds_the_same_numbers(name, tmp_path):
    path = EARLIER / "checkpoints" / f"{name}.npz"
    net = load(path)
    held = members(path)
    for key, posterior in net.parameters().items():
        assert posterior.mean.tobytes() == held[f"mean/{key}"]
        assert posterior.scale.tobytes() == held[f"scale/{key}"]
    for index, array in net.correlation.items():
        assert array.tobytes() == held[f"correlation/{index}"]
    # Law, prior, layers and shape stand in the header: written again, it is the same.
    save(tmp_path / "again.npz", net)
    assert members(tmp_path / "again.npz") == held


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_outputs(name):
    net = load(EARLIER / "checkpoints" / f"{name}.npz")
    want = expected("checkpoints/outputs.expected.npz", name)
    x = want.pop("x")
    got = {"sampled": net.sample(x, 3, np.random.default_rng(5))}
    if not net.correlation:
        y, of_random = net.propagate(x), net.propagate(Moments(x, 0.1 + x**2))
        got |= {"mean": y.mean, "var": y.var}
        got |= {"random_mean": of_random.mean, "random_var": of_random.var}
    assert_equal_but_for_rounding(got, want)


def fresh() -> Network:
    """The network of `unfinished.npz` before its first epoch."""
    return Network(
        [Dense(6, 5), ReLU(), Dense(5, 3)],
        seed=8,
        law=HeavyTailed(0.7, 0.2),
        prior=GaussianPrior(0.3),
        correlated=[2],
    )


def test_an_unfinished_run_is_finished_as_it_would_have_been(tmp_path):
    path = tmp_path / "unfinished.npz"
    shutil.copy(EARLIER / "checkpoints" / "unfinished.npz", path)
    with np.load(EARLIER / "checkpoints" / "finished.expected.npz") as arrays:
        want = dict(arrays)
    net, epochs = fresh(), []
    with threadpool_limits(1):
        history = train(
            net,
            want["x"],
            want["y"],
            validation=(want["x_validation"], want["y_validation"]),
            checkpoint=path,
            resume=True,
            on_epoch=lambda epoch: epochs.append(epoch.number),
            **OPTIONS,
        )
    assert epochs == [4, 5, 6]
    got = {f"mean/{n}": p.mean for n, p in net.parameters().items()}
    got |= {f"scale/{n}": p.scale for n, p in net.parameters().items()}
    got["correlation"] = net.correlation[2]
    got["nll"] = np.array([epoch.loss.nll for epoch in history])
    got["kl"] = np.array([epoch.loss.kl for epoch in history])
    got["score"] = np.array([epoch.validation for epoch in history])
    blas = " ".join(
        f"{found['internal_api']} {found['version']} {found['architecture']}"
        for found in threadpool_info()
        if found["user_api"] == "blas" and "numpy" in found["filepath"]
    )
    processor = records.processor(target("host"))["mcpu"]
    same_machine = (processor, blas) == (str(want["processor"]), str(want["blas"]))
    for key, values in got.items():
        if same_machine:
            np.testing.assert_array_equal(values, want[key], err_msg=key)
        # The run amplifies nothing: inputs changed by 1e-12 move its parameters by 1e-13 at most.
        # So a thousand roundings of other processors' sums, of 1e-16 each, stay below 1e-12.
        np.testing.assert_allclose(values, want[key], rtol=1e-12, atol=1e-12, err_msg=key)


def test_a_run_with_other_options_is_refused(tmp_path):
    path = tmp_path / "unfinished.npz"
    shutil.copy(EARLIER / "checkpoints" / "unfinished.npz", path)
    with np.load(EARLIER / "checkpoints" / "finished.expected.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
        validation = arrays["x_validation"], arrays["y_validation"]
    options = OPTIONS | {"learning_rate": 0.01}
    with pytest.raises(InputError, match="learning_rate"):
        train(fresh(), x, y, validation=validation, checkpoint=path, resume=True, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_law_is_the_same(family, tmp_path):
    path = EARLIER / "laws" / f"{family}.json"
    law, measured = load_law(path)
    assert type(law).__name__ == family
    content = json.loads(path.read_text())
    place = None if "measured" not in content else measured
    save_law(tmp_path / "again.json", law, place)
    assert (tmp_path / "again.json").read_text() == path.read_text()

    want = expected("laws/laws.expected.npz", family)
    with np.load(EARLIER / "laws" / "laws.expected.npz") as arrays:
        z = law.icdf(arrays["u"])
    rule = law.quadrature(5)
    got = {
        "icdf": z,
        "log_pdf": law.log_pdf(z),
        "nodes": rule.nodes,
        "weights": rule.weights,
        "entropy": np.array(law.entropy),
        "sample": law.sample(np.random.default_rng(3), (8,)),
    }
    assert_equal_but_for_rounding(got, want)


def test_records_of_tuning_are_the_same(tmp_path):
    path = EARLIER / "tuning" / "cortex-a72.json"
    found = records.read(path)
    assert [(r.workload, r.measure, r.cost, r.cost_by_hand, r.trials) for r in found] == [
        ("dense 5x3 batch 1 random variance", "proxy_cycles", 321.0, 321.0, 7),
        ("dense 6x5 batch 1 known variance", "proxy_cycles", 1234.0, 1300.5, 12),
        ("dense 6x5 batch 1 known variance", "seconds", 1.25e-6, 1.5e-6, 12),
    ]
    for record in found:
        records.keep(record, tmp_path / path.name)
    assert (tmp_path / path.name).read_text() == path.read_text()


def test_a_record_and_a_journal_are_found_by_their_operator():
    step = Step(
        "dense 6x5 batch 1 known variance",
        {"rows": 1, "packs": 2},
        {"rows": (1,), "packs": (1, 2, 3)},
        lambda *_: None,
    )
    record = records.find(step, target("cortex-a72"), EARLIER / "tuning")
    assert record is not None
    assert (record.decisions, record.measure) == ({"rows": 1, "packs": 2}, "seconds")
    journal = Journal(EARLIER / "tuning", step, target("cortex-a72"), "proxy_cycles")
    assert journal.file.exists()
    assert journal.read() == {(1, 2): 1300.5, (1, 1): 1500.0, (1, 3): float("inf")}
