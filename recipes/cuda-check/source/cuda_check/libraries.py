"""Loads the extension modules, and says which library is missing where one does not load.

Each module is linked with one of CUDA's libraries, so each tells of its own. The libraries are those that the loader
finds; those of NVIDIA's packages of the Python index (``nvidia-cudnn-cu12`` and the like) are loaded from where pip put
them.
"""

import ctypes
import glob
import importlib
import os
import re
import sys

# In the order in which they need each other.
FAMILIES = ("cuda_runtime", "cublas", "cudnn")
WANTED = {
    "cuda_runtime": ("libcudart.so.*",),
    "cublas": ("libcublasLt.so.*", "libcublas.so.*"),
    "cudnn": ("libcudnn.so.*",),
}
_MISSING = re.compile(r"(lib[A-Za-z0-9_]+\.so[.0-9]*): cannot open shared object file")


def preload(path=None):
    """Loads NVIDIA's libraries out of Python's packages; returns the files that were loaded."""
    loaded = []
    for folder in sys.path if path is None else path:
        for family in FAMILIES:
            for pattern in WANTED[family]:
                for file in sorted(glob.glob(os.path.join(folder, "nvidia", family, "lib", pattern))):
                    try:
                        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
                    except OSError:
                        continue  # the module that wants it tells what is wrong with it
                    loaded.append(file)
    return loaded


def built(name):
    """Whether this package has one of the extension modules."""
    return bool(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".*")))


def load(name):
    """One of the extension modules and None, or None and why it does not load."""
    try:
        return importlib.import_module("cuda_check." + name), None
    except ImportError as error:
        return None, str(error)


def missing(why):
    """The library that an error of the loader names; None where it says something else."""
    found = _MISSING.search(why)
    return found.group(1) if found else None
