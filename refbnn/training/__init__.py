"""Training: mean-field variational inference with hand-written gradients. Start with `train`."""
