"""Variances in half precision: errors with bounds, and instructions."""
