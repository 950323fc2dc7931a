"""Probabilities of classes and their uncertainty from logits, inside the compiled function.

`quadrature` takes moments of independent logits, `table` moments of correlated ones, `samples` the
logits of samples. Each gives the probabilities (batch, classes padded) and three statistics.
"""
