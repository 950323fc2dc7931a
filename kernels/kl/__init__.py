"""KL divergence and its gradients as kernels."""
