import math

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from refbnn.data.ambiguous.barycentre import barycentres
from refbnn.data.ambiguous.make import cached_ambiguous, make_ambiguous, mixtures
from refbnn.data.packaged_files import packaged_split
from refbnn.errors import InputError

EPSILON, ITERATIONS = 4.0, 50  # as the ambiguous digits use them


@pytest.fixture(scope="module")
def digits():
    return packaged_split("mnist-subset", "train")


def distribution(images):
    return images / images.sum(axis=(1, 2), keepdims=True, dtype=float)


def gaussian(column, row, deviation):
    rows, columns = np.mgrid[:28, :28]
    r2 = (columns - column) ** 2 + (rows - row) ** 2
    return distribution(np.exp(-r2 / (2.0 * deviation**2))[None])


def blurred_distance(a, b):
    """L1 distance once both are seen through the blur of the kernel, a number a picture."""
    width = math.sqrt(EPSILON / 2.0)
    return np.abs(gaussian_filter(a - b, (0, width, width))).sum(axis=(1, 2))


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_gaussians(t):
    # Exact: a Gaussian of the same variance at the weighted mean. The blobs are cut 4.5 deviations
    # from their centre, where a second moment loses at most 2(z φ(z) + Q(z)) = 1.5e-4 of itself.
    p, q = gaussian(9.0, 10.0, 2.0), gaussian(18.0, 15.0, 2.0)
    found = barycentres(p, q, np.array([t]), EPSILON, ITERATIONS)[0]
    rows, columns = np.mgrid[:28, :28]
    column, row = (found * columns).sum(), (found * rows).sum()
    assert found.sum() == pytest.approx(1.0, abs=1e-4)
    assert column == pytest.approx((1 - t) * 9.0 + t * 18.0, abs=2e-3)
    assert row == pytest.approx((1 - t) * 10.0 + t * 15.0, abs=2e-3)
    # Without debiasing it would be 4 + ε/2 = 6.
    assert (found * (columns - column) ** 2).sum() == pytest.approx(4.0, abs=1e-3)
    assert (found * (rows - row) ** 2).sum() == pytest.approx(4.0, abs=1e-3)


def test_as_written_out_in_loops():
    # The whole kernel between all pairs of pixels, never as a product of two; one scalar at a time.
    side, epsilon = 4, 1.5
    rng = np.random.default_rng(2)
    p, q = (distribution(rng.random((1, side, side)) + 0.1) for _ in range(2))
    t, n = 0.35, side * side
    places = [(i, j) for i in range(side) for j in range(side)]
    K = [[math.exp(-(math.dist(a, b) ** 2) / epsilon) for b in places] for a in places]
    seen = {"b_p": [1.0] * n, "b_q": [1.0] * n, "d": [1.0] * n}
    alpha = [0.0] * n

    def through(vector):
        return [sum(K[i][j] * vector[j] for j in range(n)) for i in range(n)]

    for _ in range(6):
        K_of = {}
        for key, picture in (("b_p", p.ravel()), ("b_q", q.ravel())):
            below = through(seen[key])
            K_of[key] = through([picture[i] / below[i] for i in range(n)])
        for i in range(n):
            alpha[i] = seen["d"][i] * K_of["b_p"][i] ** (1 - t) * K_of["b_q"][i] ** t
        for key in ("b_p", "b_q"):
            seen[key] = [alpha[i] / K_of[key][i] for i in range(n)]
        below = through(seen["d"])
        seen["d"] = [math.sqrt(seen["d"][i] * alpha[i] / below[i]) for i in range(n)]
    found = barycentres(p, q, np.array([t]), epsilon, 6)
    # Rounding: sums of 16 positive terms, 6 times over.
    np.testing.assert_allclose(found.ravel(), alpha, rtol=1e-12)


def test_of_a_digit_with_itself_and_with_itself_moved(digits):
    # With room to move: no ink in the four columns on the right.
    images = digits[0][~digits[0][:, :, -4:].any(axis=(1, 2))][:60]
    p, t = distribution(images), np.full(60, 0.5)
    itself = barycentres(p, p, t, EPSILON, ITERATIONS)
    np.testing.assert_allclose(itself.sum(axis=(1, 2)), 1.0, atol=2e-4)
    # The bounds are the greatest figures that the module states for 5000 digits, rounded up.
    assert np.abs(itself - p).sum(axis=(1, 2)).max() < 0.45
    assert blurred_distance(itself, p).max() < 0.04
    # Transport to a copy moved by 4 pixels passes the copy moved by 2: exact for this barycentre.
    moved, between = np.roll(p, 4, axis=2), np.roll(p, 2, axis=2)
    found = barycentres(p, moved, t, EPSILON, ITERATIONS)
    assert blurred_distance(found, between).max() < 0.04
    assert blurred_distance(np.roll(p, 1, axis=2), between).min() > 0.15
    # The iteration tends to it, by a factor of 2.6 as the module states.
    more = blurred_distance(barycentres(p, moved, t, EPSILON, 4 * ITERATIONS), between)
    assert np.median(more) < np.median(blurred_distance(found, between)) / 2.0


def test_opposite_corners():
    # The greatest distance in a picture: nothing underflows to 0/0, and half-way is the middle.
    p, q = np.zeros((1, 28, 28)), np.zeros((1, 28, 28))
    p[0, 0, 0] = q[0, 27, 27] = 1.0
    found = barycentres(p, q, np.array([0.5]), EPSILON, ITERATIONS)
    assert found.sum() == pytest.approx(1.0, abs=1e-3)
    assert found[0, 13:15, 13:15].sum() > 0.9


def test_mixtures_are_as_dark_as_the_digits(digits):
    images = digits[0]
    t = np.linspace(0.25, 0.75, 40)
    first, second = images[:40], images[40:80]
    mixed = mixtures(first, second, t)
    ranked = (np.sort(pictures.reshape(40, -1).astype(float)) for pictures in (first, second))
    lighter, darker = ranked
    expected = (1 - t)[:, None] * lighter + t[:, None] * darker
    # Half a grey level of rounding.
    np.testing.assert_allclose(np.sort(mixed.reshape(40, -1)), expected, atol=0.5 + 1e-9)
    # The ink lies where the barycentre is: mixed with itself, a digit keeps its place.
    itself = mixtures(first, first, t).astype(float)
    moved = np.abs(itself - first).sum(axis=(1, 2)) / first.sum(axis=(1, 2))
    other = np.abs(first.astype(float) - second).sum(axis=(1, 2)) / first.sum(axis=(1, 2))
    assert moved.mean() < 0.1
    assert moved.max() < 0.3 < other.min()


def test_labels_follow_the_weights(digits):
    images, labels = digits
    made = make_ambiguous(images, labels, np.random.default_rng(5))
    t, n = made.weights, 500
    assert made.images.shape == (n, 28, 28)
    assert made.labels.shape == (n, 10)
    p_class, q_class = made.classes.T
    assert np.all(p_class != q_class)
    assert np.all((made.labels == p_class[:, None]) | (made.labels == q_class[:, None]))
    assert stats.kstest(t, stats.uniform(0.25, 0.5).cdf).pvalue > 1e-4
    drawn = (made.labels == q_class[:, None]).sum(axis=1)
    variance = 10.0 * t * (1.0 - t)
    # Five standard errors each: of the count of all, and of the mean of squared z-scores, whose
    # variance is that of a squared standardised binomial: 2 + (1 - 6 t(1 - t)) / (10 t(1 - t)).
    assert abs((drawn - 10.0 * t).sum()) < 5.0 * math.sqrt(variance.sum())
    squared = (drawn - 10.0 * t) ** 2 / variance
    spread = 2.0 + (1.0 - 0.6 * variance) / variance
    assert abs((squared - 1.0).sum()) < 5.0 * math.sqrt(spread.sum())


def test_pictures_look_like_both_digits(digits):
    # Of the 20 nearest digits of the training subset, most belong to one of the two classes (two
    # classes drawn blindly would get 20 %), and both classes get votes more often than for digits.
    images, labels = digits
    test_images, test_labels = packaged_split("mnist-subset", "test")
    made = make_ambiguous(test_images, test_labels, np.random.default_rng(0))

    def votes(pictures):
        a, b = (z.reshape(len(z), -1).astype(float) for z in (pictures, images))
        distance = (b**2).sum(axis=1) - 2.0 * a @ b.T
        nearest = labels[np.argpartition(distance, 20, axis=1)[:, :20]]
        return (nearest[:, :, None] == np.arange(10)).mean(axis=1)

    ambiguous, plain = votes(made.images), votes(test_images)
    for_the_pair = np.take_along_axis(ambiguous, made.classes, axis=1).sum(axis=1)
    assert for_the_pair.mean() > 0.8
    assert stats.entropy(ambiguous, axis=1).mean() > 1.3 * stats.entropy(plain, axis=1).mean()


def test_cache(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, labels = digits[0][:200], digits[1][:200]
    made = cached_ambiguous(images, labels, "train")
    (path,) = tmp_path.rglob("*.*")
    assert "-v1-train-" in path.name
    path_bytes = path.read_bytes()

    def same(found):
        return all(np.array_equal(a, b) for a, b in zip(found, made, strict=True))

    monkeypatch.setattr("refbnn.data.ambiguous.make.make_ambiguous", None)  # must not be called
    assert same(cached_ambiguous(images, labels, "train"))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for broken in (b"", path_bytes[: len(path_bytes) // 2], b"PK\3\4 garbage"):
        path.write_bytes(broken)
        assert same(cached_ambiguous(images, labels, "train"))
        assert path.read_bytes() == path_bytes
    other = cached_ambiguous(images, labels, "test")
    assert not np.array_equal(other[0], made[0])
    assert len(list(tmp_path.rglob("*.*"))) == 2
    # A cache that cannot be written: a file is where its folder should be.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert same(cached_ambiguous(images, labels, "train"))


def test_what_cannot_be_mixed_is_refused(digits):
    images, labels = digits
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="9 digits of"):
        make_ambiguous(images[:9], labels[:9], rng)
    with pytest.raises(InputError, match=r"of 1 class\(es\); expected at least 10, of two"):
        make_ambiguous(images[labels == 3], labels[labels == 3], rng)
    with pytest.raises(InputError, match="an image is empty"):
        make_ambiguous(np.concatenate([images[:20], 0 * images[:1]]), labels[:21], rng)
