"""Secure JAX/Flax inference: mixed-bitwidth fixed point under three-party replicated secret sharing."""

from ditto_spu.api import Result, SecureFunction, secure
from ditto_spu.cluster.client import ClusterClient, connect
from ditto_spu.comparison import Comparison
from ditto_spu.config import load_config
from ditto_spu.errors import DittoError
from ditto_spu.material import Material
from ditto_spu.material import load as load_material
from ditto_spu.report import CostReport

__all__ = [
    "ClusterClient",
    "Comparison",
    "CostReport",
    "DittoError",
    "Material",
    "Result",
    "SecureFunction",
    "connect",
    "load_config",
    "load_material",
    "secure",
]
