"""Boards: kernels on another machine, through TVM's tracker and server."""
