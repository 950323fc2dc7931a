"""Quality of uncertainty: evaluation, calibration, PFP against SVI. Start with `evaluation`."""
