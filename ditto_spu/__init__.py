"""Secure JAX and Flax inference in mixed-bitwidth fixed point, with three-party replicated secret sharing."""

from ditto_spu.api import Result, SecureFunction, calibrate, secure
from ditto_spu.calibration.calibration import Calibration, load_calibration
from ditto_spu.cluster.client.client import ClusterClient, connect
from ditto_spu.compare.table import Comparison
from ditto_spu.diffusion.denoiser import Denoiser
from ditto_spu.diffusion.sampler import Sampler, Samples, sample
from ditto_spu.diffusion.schedule import Schedule
from ditto_spu.errors import DittoError
from ditto_spu.generation.conversation import Conversation
from ditto_spu.generation.decoder import Decoder
from ditto_spu.generation.drafts import Drafts
from ditto_spu.generation.generated import Generation
from ditto_spu.generation.generator import Generator, generate
from ditto_spu.generation.sampling import Sampling
from ditto_spu.models.loaded import LoadedModel, load
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.kept import Kept
from ditto_spu.rules.load import load_config
from ditto_spu.runtime.material import Material
from ditto_spu.runtime.material import load as load_material
from ditto_spu.search.search import ErrorBudget, search

__all__ = [
    "Calibration",
    "ClusterClient",
    "Comparison",
    "Conversation",
    "CostReport",
    "Decoder",
    "Denoiser",
    "DittoError",
    "Drafts",
    "ErrorBudget",
    "Generation",
    "Generator",
    "Kept",
    "LoadedModel",
    "Material",
    "Result",
    "Sampler",
    "Samples",
    "Sampling",
    "Schedule",
    "SecureFunction",
    "calibrate",
    "connect",
    "generate",
    "load",
    "load_calibration",
    "load_config",
    "load_material",
    "sample",
    "search",
    "secure",
]
