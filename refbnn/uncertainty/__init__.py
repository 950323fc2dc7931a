"""Uncertainty judged: evaluation, calibration, propagation against sampling."""
