"""These three-party kernels work on ABY3 replicated shares and need neither SPU nor the compiler."""

from ditto_kernels.activation.gelu import GELU_KERNEL
from ditto_kernels.activation.softplus_mish import MISH_KERNEL, SOFTPLUS_KERNEL
from ditto_kernels.activation.tanh_sigmoid_silu import SIGMOID_KERNEL, SILU_KERNEL, TANH_KERNEL
from ditto_kernels.guard.element_guard import ELEMENT_GUARD
from ditto_kernels.guard.last_guard import GUARD_BIT
from ditto_kernels.guard.product_guard import PRODUCT_GUARD
from ditto_kernels.guard.range_guard import RANGE_GUARD
from ditto_kernels.guard.spread_guard import SPREAD_GUARD
from ditto_kernels.inverse.reciprocal_rsqrt_divide import DIVIDE, RECIPROCAL, RSQRT
from ditto_kernels.inverse.whole_roots import SQRT
from ditto_kernels.maximum.absolute import ABS, SIGN
from ditto_kernels.maximum.argmax import ARGMAX
from ditto_kernels.maximum.clamp import CLAMP
from ditto_kernels.maximum.compare import COMPARE
from ditto_kernels.maximum.maximum import MAXIMUM, MINIMUM, REDUCE_MAX, REDUCE_MIN
from ditto_kernels.maximum.rounding import ROUND
from ditto_kernels.norm.layer_norm import LAYER_NORM
from ditto_kernels.norm.rms_norm import RMS_NORM
from ditto_kernels.products.choose import LOGIC, SELECT
from ditto_kernels.products.embedding import EMBEDDING_KERNEL
from ditto_kernels.products.matmul import MATMUL
from ditto_kernels.products.matmul_public import MATMUL_ADAPTED, MATMUL_PUBLIC
from ditto_kernels.products.multiply import MULTIPLY
from ditto_kernels.products.scale import SCALE
from ditto_kernels.protocol.kernel import Kernel
from ditto_kernels.sharing.casts import CAST
from ditto_kernels.softmax.exponential import EXPONENTIAL
from ditto_kernels.softmax.softmax import SOFTMAX
from ditto_kernels.softmax.whole_logarithm import LOG
from ditto_kernels.trigonometry.odd_series import ODD
from ditto_kernels.trigonometry.sine_cosine import SINE

# This list is literal on purpose: it shows in one place everything that the compiler may call.
KERNELS: dict[str, Kernel] = {
    "abs": ABS,
    "argmax": ARGMAX,
    "cast": CAST,
    "clamp": CLAMP,
    "compare": COMPARE,
    "divide": DIVIDE,
    "element_guard": ELEMENT_GUARD,
    "embedding": EMBEDDING_KERNEL,
    "exponential": EXPONENTIAL,
    "gelu": GELU_KERNEL,
    "guard_bit": GUARD_BIT,
    "layer_norm": LAYER_NORM,
    "log": LOG,
    "logic": LOGIC,
    "matmul": MATMUL,
    "matmul_adapted": MATMUL_ADAPTED,
    "matmul_public": MATMUL_PUBLIC,
    "maximum": MAXIMUM,
    "minimum": MINIMUM,
    "mish": MISH_KERNEL,
    "multiply": MULTIPLY,
    "scale": SCALE,
    "odd_series": ODD,
    "product_guard": PRODUCT_GUARD,
    "range_guard": RANGE_GUARD,
    "reciprocal": RECIPROCAL,
    "reduce_max": REDUCE_MAX,
    "reduce_min": REDUCE_MIN,
    "rms_norm": RMS_NORM,
    "round": ROUND,
    "rsqrt": RSQRT,
    "select": SELECT,
    "sigmoid": SIGMOID_KERNEL,
    "sign": SIGN,
    "silu": SILU_KERNEL,
    "sine": SINE,
    "softmax": SOFTMAX,
    "softplus": SOFTPLUS_KERNEL,
    "spread_guard": SPREAD_GUARD,
    "sqrt": SQRT,
    "tanh": TANH_KERNEL,
}

__all__ = ["KERNELS", "Kernel"]
