"""Predictions with their uncertainty, by propagation or sampling. Start with `predict`."""
