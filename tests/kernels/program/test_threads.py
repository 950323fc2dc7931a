"""Compiled networks in several threads, after a fork, in pickles and in copies."""

import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from kernels import compile_network, compile_sampled, sampled_network
from kernels.gradients import dense, kernel
from kernels.kl import kernel as kl
from kernels.program import kernel as kernel_module
from refbnn.errors import InputError
from refbnn.layers import Dense, ReLU
from refbnn.network.network import Network
from refbnn.noise.families.gaussian import Gaussian
from refbnn.prior import GaussianPrior

N_THREADS, N_CALLS = 4, 100


@pytest.fixture(scope="module")
def net():
    return Network([Dense(200, 100), ReLU(), Dense(100, 10)], seed=0)


@pytest.fixture(scope="module")
def fast(net):
    return compile_network(net, 4)


def require_same_in_threads(call, inputs):
    """All threads at once, each on inputs of its own: the results of one thread alone."""
    alone = [call(*arguments) for arguments in inputs]
    start = threading.Barrier(len(inputs))

    def work(index):
        start.wait()
        for _ in range(N_CALLS):
            for got, expected in zip(call(*inputs[index]), alone[index], strict=True):
                np.testing.assert_array_equal(got, expected)

    with ThreadPoolExecutor(len(inputs)) as pool:
        list(pool.map(work, range(len(inputs))))


def inputs(*shapes):
    rng = np.random.default_rng(0)
    return [[rng.random(shape) for shape in shapes] for _ in range(N_THREADS)]


def moments(y):
    return y.mean, y.var


def test_network_in_threads(fast):
    require_same_in_threads(lambda x: moments(fast(x)), inputs((4, 200)))
    assert fast.kernel.lock.acquire(blocking=False)  # and nobody holds the lock
    fast.kernel.lock.release()


def test_sampled_network_in_threads():
    fast = compile_sampled(Network([Dense(40, 10)], seed=0), 4, n_samples=5)
    some = [[x, seed] for seed, (x,) in enumerate(inputs((4, 40)))]
    require_same_in_threads(lambda x, seed: [fast(x, seed)], some)


def test_gradients_and_kl_in_threads():
    gradients = kernel.build(dense.Sizes(60, 30, batch=8))
    shapes = [view.shape for view in gradients.inputs]
    require_same_in_threads(gradients, inputs(*shapes))
    divergence = kl.build(2000, Gaussian(), GaussianPrior())
    some = [[mean, 0.1 + scale] for mean, scale in inputs((2000,), (2000,))]
    require_same_in_threads(divergence, some)


def test_an_error_leaves_the_lock_free(fast):
    x = np.zeros((4, 200))
    for bad in (np.full((4, 200), np.nan), np.zeros((1, 200)), None):
        with pytest.raises(ValueError, match="x "):
            fast(bad)
    assert np.isfinite(fast(x).mean).all()


def test_an_interruption_leaves_the_lock_free(fast):
    def interrupted():
        raise KeyboardInterrupt

    broken = replace(fast, kernel=replace(fast.kernel, run=interrupted))
    with pytest.raises(KeyboardInterrupt):
        broken(np.zeros((4, 200)))
    assert np.isfinite(fast(np.zeros((4, 200))).mean).all()  # by the same lock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_computes_though_a_thread_held_the_lock(fast):
    x = np.ones((4, 200))
    expected = fast(x).mean
    with fast.kernel.lock:  # as another thread's call, at the moment of the fork
        child = os.fork()
        if child == 0:
            ok = False
            try:
                ok = np.array_equal(fast(x).mean, expected)
            finally:
                os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


SMALL, X = Network([Dense(3, 2)], seed=0), np.ones((1, 3))


@pytest.mark.parametrize(
    ("compiled", "module", "arguments"),
    [(compile_network, kernel_module, ()), (compile_sampled, sampled_network, (1,))],
    ids=["moments", "samples"],
)
def test_predictions_compile_once(compiled, module, arguments, monkeypatch):
    """Not for an x that is refused; again after an interruption; not for each of three threads."""
    fast, build, calls = compiled(SMALL, 1), module.build, []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def counted(*args, **options):
        calls.append(args)
        return build(*args, **options)

    monkeypatch.setattr(module, "build", interrupted)
    for wrong in (np.ones((1, 4)), "digits"):
        with pytest.raises(InputError, match="x "):
            fast.predict(wrong, *arguments)
    with pytest.raises(KeyboardInterrupt):
        fast.predict(X, *arguments)
    monkeypatch.setattr(module, "build", counted)
    start = threading.Barrier(3)

    def first(_):
        start.wait()
        return fast.predict(X, *arguments).probabilities

    with ThreadPoolExecutor(3) as pool:
        one, *others = pool.map(first, range(3))
    assert len(calls) == 1
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_words_for_a_compiled_network_fit_a_line(fast):
    assert repr(fast) == (
        "CompiledNetwork(kernel=Kernel((4, 200) -> (4, 10), (4, 10)), trained=None, "
        "likelihood=None)"
    )
    assert len(repr(compile_sampled(SMALL, 1, n_samples=2))) < 100


def test_pickles_and_copies_compile_again():
    small = Network([Dense(3, 2)], seed=0)
    x = np.ones((1, 3))
    for first, call in (
        (compile_network(small, 1), lambda fast: fast(x).var),
        (compile_sampled(small, 1, n_samples=2), lambda fast: fast(x, seed=1)),
    ):
        expected = call(first)
        for second in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
            np.testing.assert_array_equal(call(second), expected)
            assert second.kernel.lock is not first.kernel.lock
            assert not np.shares_memory(second.kernel.outputs[0], first.kernel.outputs[0])


def test_a_pickle_keeps_the_weights_that_were_compiled():
    small = Network([Dense(3, 2)], seed=0)
    fast, x = compile_network(small, 1), np.ones((1, 3))
    expected = fast(x).mean
    small.set_parameters(Network([Dense(3, 2)], seed=1).parameters())
    np.testing.assert_array_equal(copy.copy(fast)(x).mean, expected)


def test_a_kernel_is_neither_pickled_nor_copied(fast):
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied; compile it again"):
            action(fast.kernel)
