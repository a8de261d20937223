"""C++ kernels for the CPU, and how they are compiled."""
