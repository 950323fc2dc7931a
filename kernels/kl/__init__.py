"""KL divergence of weights from their prior, and its gradients, as kernels; start with `kernel`."""
