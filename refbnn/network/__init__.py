"""Networks: layers in a row with the posterior of every weight, and their files.

Start with `network`; `file` saves and loads, `architectures` names the networks of the papers.
"""
