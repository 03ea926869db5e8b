"""Whether CUDA works on this machine: driver, runtime, cuBLAS, cuDNN, GPUs, and one call of each.

``python -m cuda_check`` says it in sentences; :func:`check` gives it as a value.
"""

from cuda_check.report import Finding, Report, check

__all__ = ["Finding", "Report", "check"]
__version__ = "1.0.0"
