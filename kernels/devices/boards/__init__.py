"""Boards: kernels on another machine, through TVM's tracker and server; start with `rpc`."""
