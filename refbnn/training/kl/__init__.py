"""KL divergence of posterior and prior with its gradients, for every pair of laws."""
