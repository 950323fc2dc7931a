"""Reading and writing files: atomic writes, and readers that never execute what they read.

Start with `atomic` for writing, `folder` for several files at once; `archive`, `npy`, `json_file`
and `torch_file` read files made by others.
"""
