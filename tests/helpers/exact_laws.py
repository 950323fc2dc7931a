"""Device laws in mpmath, from the definition alone: the truth that numerics are held against."""

from functools import cached_property

import mpmath as mp


class ExactLaw:
    """Expectations of f(y) under q(y) ∝ (1 + y)^α (1 − y)^β exp(g(y)), in 30 digits."""

    def __init__(self, law):
        self.alpha, self.beta = mp.mpf(law.alpha), mp.mpf(law.beta)
        self.coefficients = [mp.mpf(c) for c in law.coefficients]
        self.total = self._from_lower(1, lambda *_: 1) + self._from_upper(1, lambda *_: 1)

    def interior(self, y):
        """g(y), by T_{k+1} = 2y T_k − T_{k−1}; mpmath's own polynomials take ten times as long."""
        total, before, at = mp.mpf(0), mp.mpf(1), y
        for c in self.coefficients:
            total += c * at
            before, at = at, 2 * y * at - before
        return total

    def log_density(self, lower, upper):
        """log q(y), from 1 + y and 1 − y."""
        log_q = self.interior((lower - upper) / 2) - mp.log(self.total)
        return log_q + self.alpha * mp.log(lower) + self.beta * mp.log(upper)

    def _from_lower(self, reach, f):
        """∫ f q Z over 0 ≤ t = 1 + y ≤ reach; s = t^(α+1) takes the singularity away."""
        power = 1 / (self.alpha + 1)

        def integrand(s):
            t = s**power
            return f(t, 2 - t) * (2 - t) ** self.beta * mp.exp(self.interior(t - 1))

        end = mp.mpf(reach) ** (self.alpha + 1)
        return power * mp.quad(integrand, mp.linspace(0, end, 5))

    def _from_upper(self, reach, f):
        power = 1 / (self.beta + 1)

        def integrand(s):
            t = s**power
            return f(2 - t, t) * (2 - t) ** self.alpha * mp.exp(self.interior(1 - t))

        end = mp.mpf(reach) ** (self.beta + 1)
        return power * mp.quad(integrand, mp.linspace(0, end, 5))

    def expect(self, f):
        """E[f(1 + y, 1 − y)]."""
        return (self._from_lower(1, f) + self._from_upper(1, f)) / self.total

    def cdf(self, y):
        """P(Y ≤ y)."""
        if y <= 0:
            return self._from_lower(1 + mp.mpf(y), lambda *_: 1) / self.total
        return 1 - self._from_upper(1 - mp.mpf(y), lambda *_: 1) / self.total

    @cached_property
    def location(self):
        """Mean and standard deviation of y."""
        mean = self.expect(lambda lower, upper: (lower - upper) / 2)
        var = self.expect(lambda lower, upper: ((lower - upper) / 2 - mean) ** 2)
        return mean, mp.sqrt(var)

    def standardised(self, f):
        """E[f(z)] for z = (y − mean)/sd."""
        mean, sd = self.location
        return self.expect(lambda lower, upper: f(((lower - upper) / 2 - mean) / sd))

    def entropy(self):
        """Entropy of z, in nats."""
        _, sd = self.location
        return -self.expect(self.log_density) - mp.log(sd)
