"""Ship, store and load many fine-tunes of one base model as small, verified stitch packs.

>>> import stitchpack
>>> with stitchpack.open("base.safetensors", ["reviews.stitch", ("languages.stitch", 0.8)]) as model:
...     weight = model.get_tensor("encoder.layer.0.output.dense.weight")

:mod:`stitchpack.torch` is for torch and transformers, :mod:`stitchpack.vllm` for vLLM, and :mod:`stitchpack.errors` has what can go
wrong.
"""

from ._apply import Applied, apply, lock
from ._calibrate import calibrate
from ._create import Created, create
from ._diff import Diff, diff
from ._export import Exported, export
from ._fold import fold
from ._inspection import Inspection, inspect
from ._learn import Batch
from ._merge import PackGain
from ._model import StitchedModel, TensorSlice, load_file, open
from ._native import VERSION as __version__
from ._native import Base, Pack
from ._overlap import Overlap, overlap
from ._recipe import Recipe
from ._verify import Claim, Verified, VerifiedPack, verify
from .errors import (
    BaseMismatch,
    DigestMismatch,
    IntegrityError,
    InternalError,
    Interrupted,
    InvalidInput,
    IoError,
    LimitExceeded,
    Malformed,
    MissingPackage,
    NotFound,
    Refused,
    StitchpackError,
    Unsupported,
)

__all__ = [
    "Applied",
    "Base",
    "BaseMismatch",
    "Batch",
    "Claim",
    "Created",
    "Diff",
    "DigestMismatch",
    "Exported",
    "Inspection",
    "IntegrityError",
    "InternalError",
    "Interrupted",
    "InvalidInput",
    "IoError",
    "LimitExceeded",
    "Malformed",
    "MissingPackage",
    "NotFound",
    "Overlap",
    "Pack",
    "PackGain",
    "Recipe",
    "Refused",
    "StitchedModel",
    "StitchpackError",
    "TensorSlice",
    "Unsupported",
    "Verified",
    "VerifiedPack",
    "__version__",
    "apply",
    "calibrate",
    "create",
    "diff",
    "export",
    "fold",
    "inspect",
    "load_file",
    "lock",
    "open",
    "overlap",
    "verify",
]
