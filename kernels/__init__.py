"""These three-party kernels work on ABY3 replicated shares and need neither SPU nor the compiler."""

from ditto_kernels.activation.gelu import GELU_KERNEL
from ditto_kernels.activation.tanh_sigmoid_silu import SIGMOID_KERNEL, SILU_KERNEL, TANH_KERNEL
from ditto_kernels.inverse.reciprocal_rsqrt_divide import DIVIDE, RECIPROCAL, RSQRT
from ditto_kernels.maximum.argmax import ARGMAX
from ditto_kernels.maximum.maximum import MAXIMUM, REDUCE_MAX
from ditto_kernels.norm.layer_norm import LAYER_NORM
from ditto_kernels.norm.rms_norm import RMS_NORM
from ditto_kernels.products.embedding import EMBEDDING_KERNEL
from ditto_kernels.products.matmul import MATMUL
from ditto_kernels.products.matmul_public import MATMUL_ADAPTED, MATMUL_PUBLIC
from ditto_kernels.products.multiply import MULTIPLY
from ditto_kernels.protocol.kernel import Kernel
from ditto_kernels.sharing.casts import CAST
from ditto_kernels.softmax.exponential import EXPONENTIAL
from ditto_kernels.softmax.softmax import SOFTMAX

# This list is literal on purpose: it shows in one place everything that the compiler may call.
KERNELS: dict[str, Kernel] = {
    "argmax": ARGMAX,
    "cast": CAST,
    "divide": DIVIDE,
    "embedding": EMBEDDING_KERNEL,
    "exponential": EXPONENTIAL,
    "gelu": GELU_KERNEL,
    "layer_norm": LAYER_NORM,
    "matmul": MATMUL,
    "matmul_adapted": MATMUL_ADAPTED,
    "matmul_public": MATMUL_PUBLIC,
    "maximum": MAXIMUM,
    "multiply": MULTIPLY,
    "reciprocal": RECIPROCAL,
    "reduce_max": REDUCE_MAX,
    "rms_norm": RMS_NORM,
    "rsqrt": RSQRT,
    "sigmoid": SIGMOID_KERNEL,
    "silu": SILU_KERNEL,
    "softmax": SOFTMAX,
    "tanh": TANH_KERNEL,
}

__all__ = ["KERNELS", "Kernel"]
