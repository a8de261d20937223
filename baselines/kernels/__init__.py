"""The CPU's C++ kernels and how they are built."""
