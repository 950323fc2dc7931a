"""Ambiguous digits: images between two classes."""
