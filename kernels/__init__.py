"""Share-level three-party kernels: ABY3 replicated sharing, free of SPU and of the compiler."""

from ditto_kernels.kernel import Kernel
from ditto_kernels.linear import MATMUL, MATMUL_PUBLIC
from ditto_kernels.multiply import MULTIPLY
from ditto_kernels.truncate import CAST

# Literal on purpose: the whole list of what the compiler may call, in one place.
KERNELS: dict[str, Kernel] = {
    "cast": CAST,
    "matmul": MATMUL,
    "matmul_public": MATMUL_PUBLIC,
    "multiply": MULTIPLY,
}

__all__ = ["KERNELS", "Kernel"]
