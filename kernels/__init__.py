"""Share-level three-party kernels: ABY3 replicated sharing, free of SPU and of the compiler."""
