"""Builds the extension modules by CMake or by Bazel: CUDA_CHECK_BUILD says which (CMake, where it is not set).

The module for cuDNN is built where CUDNN_ROOT names its folder.
"""

import os
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ("_runtime", "_blas") + (("_dnn",) if os.environ.get("CUDNN_ROOT") else ())


class Build(build_ext):
    """Calls the build tool once, and puts what it linked where setuptools wants it."""

    def run(self):
        folder = os.path.abspath(self.build_temp)
        if not os.path.isdir(folder):
            os.makedirs(folder)
        tool = os.environ.get("CUDA_CHECK_BUILD", "cmake")
        built = {"bazel": self.by_bazel, "cmake": self.by_cmake}[tool](folder)
        for extension in self.extensions:
            place = os.path.abspath(self.get_ext_fullpath(extension.name))
            if not os.path.isdir(os.path.dirname(place)):
                os.makedirs(os.path.dirname(place))
            shutil.copyfile(os.path.join(built, extension.name.split(".")[-1] + ".so"), place)
            os.chmod(place, 0o755)

    @staticmethod
    def by_cmake(folder):
        options = ["-DCMAKE_BUILD_TYPE=Release", "-DMODULES=" + ";".join(MODULES)]
        file = os.environ.get("CMAKE_TOOLCHAIN_FILE")
        if file:
            options.append("-DCMAKE_TOOLCHAIN_FILE=" + file)
        subprocess.check_call(["cmake", "-S", HERE, "-B", folder] + options)
        subprocess.check_call(["cmake", "--build", folder])
        return folder

    @staticmethod
    def by_bazel(folder):
        targets = ["//:{0}.so".format(name) for name in MODULES]
        subprocess.check_call(["bazel", "build", "-c", "opt"] + targets, cwd=HERE)
        found = subprocess.check_output(["bazel", "info", "-c", "opt", "bazel-bin"], cwd=HERE)
        return found.decode().strip()


setup(
    name="cuda-check",
    version=os.environ.get("CUDA_CHECK_VERSION", "1.0.0"),
    description="Says in sentences whether CUDA works on this machine",
    license="Apache-2.0",
    packages=["cuda_check"],
    ext_modules=[Extension("cuda_check." + name, sources=[]) for name in MODULES],
    cmdclass={"build_ext": Build},
    python_requires=">=2.7",
    zip_safe=False,
)
sys.stdout.flush()
