"""Libraries as firmware uses them: memory of the caller's, faults, threads, several networks."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from kernels import compile_network
from kernels.deploy import deploy
from refbnn import cli, save
from refbnn.errors import InputError
from refbnn.layers import Dense, Normalise, ReLU
from refbnn.prediction.predict import predict
from tests.helpers.c_library import (
    CC,
    CXX,
    STRICT,
    ZIG,
    Header,
    Library,
    aligned,
    built,
    called,
    checked,
    core_with,
    placed,
    ran,
    random_network,
)

GCC = shutil.which("gcc")
LAYERS = [Dense(6, 9), ReLU(), Dense(9, 4)]
X = np.random.default_rng(2).standard_normal((2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return random_network(LAYERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, net):
    """A library for two examples."""
    made = tmp_path_factory.mktemp("library") / "built"
    deploy(net, made, "net", 2, abstain_above=0.03)
    return made


@pytest.fixture
def library(folder):
    return Library(folder, "net")


@pytest.fixture(scope="module")
def source(tmp_path_factory, net):
    """The same network as C source."""
    made = tmp_path_factory.mktemp("source") / "built"
    deploy(net, made, "net", 2, source=True)
    return made


def test_nothing_works_before_the_check(library):
    code, mean, var = library.propagate(X)
    assert code == "NOT_CHECKED"
    assert np.isnan([mean, var]).all()
    code, p, entropies, statuses = library.predict_classes(X)
    assert (code, statuses) == ("NOT_CHECKED", ["NOT_CHECKED"] * 2)
    assert np.isnan(p).all()
    assert np.isnan(entropies).all()


def test_memory_that_does_not_fit_is_refused(library):
    size = ctypes.c_size_t
    assert library.header.WORK_BYTES % 64 == 0
    assert library.call("check", library.work, size(library.work.nbytes - 1)) == "BAD_WORK"
    assert library.call("check", None, size(library.work.nbytes)) == "BAD_WORK"
    off = aligned(library.work.nbytes, 4)
    assert library.call("check", off, size(off.nbytes)) == "BAD_WORK"
    x, mean, var = X.ravel(), np.zeros(8, np.float32), np.zeros(8, np.float32)
    assert library.call("propagate", x, mean, var, off) == "BAD_WORK"
    assert library.call("propagate", x, mean, var, None) == "BAD_WORK"
    assert np.isnan(mean).all()
    assert library.check() == "OK"
    for arguments in ((None, mean, var), (x, None, var), (x, mean, None)):
        mean[:] = var[:] = 7
        assert library.call("propagate", *arguments, library.work) == "NULL"
        assert not any((array == 7).any() for array in arguments[1:] if array is not None)
        assert library.call("predict", *arguments, library.work) == "NULL"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_input_leaves_no_number_and_no_trace(library, net, bad):
    assert library.check() == "OK"
    x = X.copy()
    x[1, 3] = bad
    code, p, entropies, statuses = library.predict_classes(x)
    assert (code, statuses) == ("BAD_INPUT", ["BAD_INPUT"] * 2)
    assert np.isnan(p).all()
    assert np.isnan(entropies).all()
    _, p, _, _ = library.predict_classes(X)
    exact = predict(net, X.astype(float)).probabilities
    np.testing.assert_allclose(p, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bit", [0, 31])
def test_a_flipped_bit_of_a_weight_is_found(tmp_path, folder, bit):
    shutil.copytree(folder, tmp_path / "built")
    archive = tmp_path / "built" / "libnet.a"
    weights = library_weights(archive)
    content = archive.read_bytes()
    at = content.index(weights) + len(weights) // 2 // 4 * 4 + bit // 8
    flipped = content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]
    archive.write_bytes(flipped)
    library = Library(tmp_path / "built", "net")
    assert library.check() == "BAD_WEIGHTS"
    code, p, _, _ = library.predict_classes(X)
    assert code == "NOT_CHECKED"
    assert np.isnan(p).all()


def library_weights(archive):
    """The bytes of an archive's weights."""
    from tests.kernels.deploy.test_deploy import member

    return member(archive).get_section_by_name(".rodata.weights").data()


def test_a_weight_that_changes_later_is_found_by_the_next_check(source, tmp_path):
    shutil.copytree(source, tmp_path / "built")
    text = (tmp_path / "built" / "net.c").read_text()
    # Weights in memory that can be written, as in a device whose flash decays.
    text = text.replace("static const NET_ALIGNED float weights", "NET_ALIGNED float weights", 1)
    (tmp_path / "built" / "net.c").write_text(text)
    library = Library(tmp_path / "built", "net")
    assert library.check() == "OK"
    weights = (ctypes.c_float * 4).in_dll(library.dll, "weights")
    assert library.predict_classes(X)[0] == "OK"
    weights[1] += 1e-6
    assert library.check() == "BAD_WEIGHTS"
    assert library.predict_classes(X)[0] == "NOT_CHECKED"


def test_wrong_arithmetic_fails_the_self_test(source, tmp_path):
    shutil.copytree(source, tmp_path / "built")
    text = (tmp_path / "built" / "net.c").read_text()
    body = text.index("net_kernel(const")
    wrong = text[:body] + text[body:].replace("fmaf(", "0.9f * fmaf(").replace(
        " * x[", " * 0.5f * x["
    )
    assert wrong != text
    (tmp_path / "built" / "net.c").write_text(wrong)
    assert Library(tmp_path / "built", "net").check() == "FAILED_TEST"


@pytest.mark.skipif(GCC is None, reason="needs gcc")
@pytest.mark.parametrize("compiler", [["gcc", "-std=c99"], ["g++", "-std=c++17", "-x", "c++"]])
def test_programs_are_clean_under_all_warnings(folder, tmp_path, compiler):
    for program in ("main.c", "decide.c"):
        words = ["-Wall", *STRICT, "-O2", program, "-x", "none", "-L.", "-lnet", "-lm"]
        built(folder, *compiler, *words, "-o", tmp_path / "program")


def test_source_is_clean_with_clang_too(source, tmp_path):
    for language in ("c99", "c11"):
        words = ["-Wextra", "-Wcast-align", f"-std={language}", "-O1", "-c", "net.c"]
        built(source, *ZIG, "cc", *STRICT, *words, "-o", tmp_path / "net.o")


@pytest.mark.skipif(GCC is None, reason="needs gcc")
def test_source_and_check_are_clean_under_sanitizers(source, tmp_path):
    words = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    built(
        source, "gcc", "-std=c99", *STRICT, *words, "main.c", "net.c", "-lm", "-o", tmp_path / "c"
    )
    code, printed = ran(tmp_path, "./c")
    assert code == 0, printed
    assert printed.count("holds") == 4


THREADS = """
#include <pthread.h>
#include <string.h>
#include "net.h"
#include "net_test.h"
#define CALLS 200
static struct net_work works[2];
static int wrong[2];
static void *run(void *argument) {
  int k = *(int *)argument;
  float x[NET_BATCH * NET_INPUTS], p[NET_BATCH * NET_CLASSES], first[NET_BATCH * NET_CLASSES];
  struct net_uncertainty u[NET_BATCH];
  for (int i = 0; i < NET_BATCH * NET_INPUTS; ++i) x[i] = net_test_x[i] * (float)(k + 1);
  wrong[k] = net_check(&works[k], sizeof works[k]) || net_predict(x, first, u, &works[k]);
  for (int call = 0; call < CALLS; ++call) {
    wrong[k] |= net_predict(x, p, u, &works[k]) || memcmp(p, first, sizeof p);
  }
  return 0;
}
int main(void) {
  pthread_t threads[2];
  int numbers[2] = {0, 1};
  for (int k = 0; k < 2; ++k) pthread_create(&threads[k], 0, run, &numbers[k]);
  for (int k = 0; k < 2; ++k) pthread_join(threads[k], 0);
  return wrong[0] || wrong[1];
}
"""


@pytest.mark.skipif(GCC is None, reason="needs gcc")
@pytest.mark.parametrize("sanitizer", [[], ["-fsanitize=thread"]])
def test_two_threads_with_two_works(folder, source, tmp_path, sanitizer):
    where = source if sanitizer else folder
    (tmp_path / "threads.c").write_text(THREADS)
    network = ["net.c", "-lm"] if sanitizer else ["libnet.a"]
    words = [*sanitizer, "-O1", "-I.", tmp_path / "threads.c", *network, "-pthread"]
    built(where, "gcc", *words, "-o", tmp_path / "threads")
    assert ran(tmp_path, "./threads") == (0, "")


def test_two_networks_in_one_program(tmp_path):
    nets = {"one": random_network([Dense(5, 3)], seed=1), "two": random_network([Dense(5, 2)])}
    x = np.linspace(0, 1, 5, dtype=np.float32)
    results = []
    for name, net in nets.items():
        deploy(net, tmp_path / name, name)
        results.append(compile_network(net, 1).predict(x[None]).probabilities.ravel())
    (tmp_path / "both.cpp").write_text(
        '#include <cstdio>\n#include "one/one.h"\n#include "one/one_test.h"\n'
        '#include "two/two.h"\n#include "two/two_test.h"\n'
        "static one_work a;\nstatic two_work b;\n"
        "int main() {\n  float x[] = {0, .25f, .5f, .75f, 1}, p[ONE_CLASSES], q[TWO_CLASSES];\n"
        "  one_uncertainty u;\n  two_uncertainty v;\n"
        "  int code = one_check(&a, sizeof a) | two_check(&b, sizeof b);\n"
        "  code |= one_predict(x, p, &u, &a) | two_predict(x, q, &v, &b);\n"
        '  for (float y : p) std::printf("%a ", double(y));\n'
        '  for (float y : q) std::printf("%a ", double(y));\n  return code;\n}\n'
    )
    flags = [*STRICT, "-Wno-unused-variable", "-Wno-unused-const-variable"]
    words = ["both.cpp", "one/libone.a", "two/libtwo.a", "-o", "both"]
    built(tmp_path, *CXX, "-std=c++17", *flags, *words)
    code, printed = ran(tmp_path, "./both")
    assert code == 0
    got = [float.fromhex(word) for word in printed.split()]
    np.testing.assert_array_equal(got, np.concatenate(results).astype(float))


def decided(folder, frames):
    """Run decide.c on frames: exit code, lines, errors."""
    built(folder, *CC, *STRICT, "-std=c99", "decide.c", "-L.", "-lnet", "-lm", "-o", "decide")
    done = subprocess.run(["./decide"], cwd=folder, input=frames, capture_output=True, check=False)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def test_the_example_decides_and_abstains(folder, net):
    x = np.random.default_rng(3).standard_normal((8, 6)).astype(np.float32)
    exact = predict(net, x.astype(float))
    unsure = exact.mutual_information > 0.03
    assert 0 < unsure.sum() < 8
    code, lines, _ = decided(folder, x.tobytes())
    assert code == 0
    words = ["abstains, nearest class" if one else "class" for one in unsure]
    expected = [f"{a} {b}," for a, b in zip(words, exact.labels, strict=True)]
    assert [line.partition(" probability")[0] for line in lines] == expected
    bad = np.full((2, 6), np.nan, np.float32)
    code, lines, said = decided(folder, bad.tobytes() + x.tobytes()[:10])
    assert (code, lines) == (1, ["abstains: code 1"] * 2)
    assert said == "the last frame has 10 bytes; expected 48\n"


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake")
def test_cmake_builds_and_runs_the_check(folder, source, tmp_path):
    for index, made in enumerate((folder, source)):
        there = tmp_path / str(index)
        built(tmp_path, "cmake", "-S", made, "-B", there)
        built(tmp_path, "cmake", "--build", there)
        built(tmp_path, "ctest", "--test-dir", there)


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="needs pkg-config")
def test_pkg_config_names_the_library(folder, tmp_path):
    words = ["pkg-config", "--cflags", "--libs", folder / "net.pc"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    built(tmp_path, *CC, folder / "main.c", *found, "-lm", "-o", "check")
    assert ran(tmp_path)[0] == 0


def test_the_header_says_what_the_numbers_are(tmp_path):
    net = random_network([Normalise(0.5, 0.25), *LAYERS]).with_variance_factor(2.5)
    net.input_range = 0.0, 1.0
    deploy(net, tmp_path / "a", "net", source=True, constant_time=True)
    text = (tmp_path / "a" / "net.h").read_text()
    for words in (
        "Made by refbnn ",
        "logits of the classes 0 to 3",
        "(x - m)/s",
        "from 0 to 1:",
        "variances of weights times 2.5",
        "timing      inputs that are 0 take as long",
    ):
        assert words in text
    hashes = set()
    for index, other in enumerate((net, net.with_variance_factor(2.0), random_network(LAYERS))):
        deploy(other, tmp_path / str(index), "net", source=True)
        (line,) = [
            line
            for line in (tmp_path / str(index) / "net.h").read_text().splitlines()
            if "   hash " in line
        ]
        hashes.add(line)
    assert len(hashes) == 3


def test_the_library_executes_as_many_instructions_as_the_kernel(tmp_path):
    """On the A72, within 1 % and the copies of input and outputs."""
    from kernels.devices.instructions import count

    net = random_network([Dense(300, 40), ReLU(), Dense(40, 10)])
    x = np.random.default_rng(1).random((1, 300)).astype(np.float32)
    x[:, np.arange(300) % 10 > 0] = 0.0
    totals = []
    for constant_time in (False, True):
        made = tmp_path / str(constant_time) / "built"
        made.parent.mkdir()
        deploy(net, made, "net", 1, "cortex-a72", constant_time=constant_time)
        fast = compile_network(net, 1, "cortex-a72", device="emulated", constant_time=constant_time)
        core = core_with(made, (made / "libnet.a").read_bytes())
        size = Header(made / "net.h").WORK_BYTES
        arguments, (mean, _) = placed(core, size, x, (1, 10), (1, 10))
        assert core.call("net_check", arguments[-1], size) == 0
        code, blocks = core.blocks("net_propagate", *arguments)
        assert code == 0
        np.testing.assert_array_equal(mean, fast(x).mean)
        copies = 10 * (300 + 20)  # at most ten instructions a number
        totals.append(count(blocks).total)
        expected = fast.instruction_count(x).total
        assert abs(totals[-1] - expected) < 0.01 * expected + copies
    assert totals[1] > 1.2 * totals[0]  # zeros are skipped, unless they must not be


@pytest.mark.parametrize(("n_outputs", "is_source"), [(1, True), (2, True), (4, True), (4, False)])
def test_linearised_libraries(tmp_path, n_outputs, is_source):
    net = random_network([Dense(6, 9), ReLU(), Dense(9, n_outputs)])
    deployed = deploy(net, tmp_path / "built", "net", 2, source=is_source, method="linearised")
    code, printed = checked(tmp_path / "built", deployed, "-std=c99", *STRICT)
    assert code == 0, printed
    library = Library(tmp_path / "built", "net")
    assert library.check() == "OK"
    joint = net.propagate(X.astype(float), method="linearised")
    code, mean, cov = library.propagate(X, second=n_outputs)
    assert code == "OK"
    # float32: some 30 roundings of terms of order 1.
    np.testing.assert_allclose(mean, joint.mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(cov.reshape(joint.cov.shape), joint.cov, rtol=0, atol=1e-5)
    code, p, entropies, statuses = library.predict_classes(X)
    assert (code, statuses) == ("OK", ["OK"] * 2)
    exact = predict(net, X.astype(float), method="linearised")
    np.testing.assert_allclose(p, exact.probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(entropies[1], exact.mutual_information, rtol=0, atol=1e-4)


def test_linearised_targets_have_the_diagonal(tmp_path):
    net = random_network([Dense(6, 9), ReLU(), Dense(9, 2)])
    net.likelihood, net.noise_sd = "gaussian", (0.5, 0.25)
    deploy(net, tmp_path / "built", "net", 2, source=True, method="linearised")
    library = Library(tmp_path / "built", "net")
    assert library.check() == "OK"
    code, (_, epistemic, aleatoric) = library.predict_targets(X)
    assert code == "OK"
    joint = net.propagate(X.astype(float), method="linearised")
    np.testing.assert_allclose(epistemic, joint.marginal.var, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(aleatoric, [[0.25, 0.0625]] * 2)


def test_a_large_temporary_array_in_a_loop_is_in_the_work_of_an_arm_core_too(tmp_path):
    net = random_network([Dense(3, 40)])  # 40 classes: 10 kB of one statement's arrays
    deploy(net, tmp_path / "built", "net", 1, "cortex-a72")
    core = core_with(tmp_path / "built", (tmp_path / "built" / "libnet.a").read_bytes())
    x = np.ones((1, 3), np.float32)
    code, mean, _ = called(core, tmp_path / "built", "net", x, (1, 40))
    assert code == 0
    np.testing.assert_allclose(mean, net.propagate(x.astype(float)).mean, rtol=0, atol=1e-6)


def run(capsys, *words):
    code = cli.main(["compile", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_options_of_the_command(tmp_path, capsys, net):
    model = tmp_path / "net.npz"
    save(model, net)
    words = (model, "-o", tmp_path / "built", "--c", "--method", "linearised")
    code, _, _ = run(capsys, *words, "--constant-time", "--abstain-above", "0.25")
    assert code == 0
    assert "#define ABSTAIN_ABOVE 0.25f" in (tmp_path / "built" / "decide.c").read_text()
    header = (tmp_path / "built" / "net.h").read_text()
    assert "linearised, with covariances" in header
    assert "net_propagate(const float *x, float *mean, float *cov," in header


@pytest.mark.parametrize("threshold", ["1.4", "-0.1", "nan"])
def test_a_threshold_that_no_prediction_can_reach_is_refused(tmp_path, capsys, net, threshold):
    model = tmp_path / "net.npz"
    save(model, net)
    words = (model, "-o", tmp_path / "built", "--c", f"--abstain-above={threshold}")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert f"abstain_above is {float(threshold):g}; expected nats of mutual information" in err
    assert not (tmp_path / "built").exists()


def test_a_threshold_is_for_classes(tmp_path, net):
    other = random_network(LAYERS)
    other.likelihood = "energy"
    with pytest.raises(InputError, match="predicts no classes"):
        deploy(other, tmp_path / "built", "net", source=True, abstain_above=0.1)
