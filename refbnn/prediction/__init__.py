"""Prediction: probabilities and uncertainty, by propagation or by sampling."""
