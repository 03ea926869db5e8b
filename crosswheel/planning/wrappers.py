"""What the compilers' wrappers are rendered from: one template, one of these for each compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

GENERATORS = ("*_gen_cc", "*_py_wrappers_cc")
"""TensorFlow's programs that write source code while it is built, as patterns of a shell: ``tf_gen_op_wrapper_cc`` and
``tf_gen_op_wrapper_py`` in ``tensorflow.bzl``, whose names are the same in 1.0.1, 1.5.0, 1.12.0, 1.15.5 and 2.14.0."""

LIBRARIES = (
    "tensorflow/libtensorflow_framework.so",
    "tensorflow/libtensorflow_framework.so.1",
    "tensorflow/libtensorflow_framework.so.2",
)
"""What a generator is linked with, below its configuration's ``bin``: ``tf_binary_additional_srcs`` of
``tensorflow.bzl`` has the first in 1.4 to 1.13, and the one with the major version since 1.14."""

_RESPONSE = ("@*",)
_RPATH = ("-Xlinker", "-Wl,*-rpath*", "-Wl,-R*", "-Wl,*,-R*")


@dataclass(frozen=True, kw_only=True)
class Cuda:
    """A CUDA toolkit as the compilers' wrappers and the build tools want it.

    ``root`` is its folder in the builder, ``target_dir`` the target's below ``targets``; ``nvcc`` is its path in the
    builder, ``standard`` the newest C++ that it knows (``c++11``), ``capabilities`` are the GPUs to compile for
    (``5.3``). ``target_options`` and ``host_options`` are nvcc's own for either side, such as ``-target-dir``.
    ``target_headers`` and ``host_headers`` are the folders of headers that Bazel is to allow, CUDA's first;
    ``target_libraries`` and ``host_libraries`` those of the libraries of either side's CUDA and cuDNN. ``stand_ins``
    are folders of headers that nvcc reads before the C library's.
    """

    root: str
    target_dir: str
    nvcc: str
    standard: str
    capabilities: tuple[str, ...]
    target_options: tuple[str, ...] = ()
    host_options: tuple[str, ...] = ()
    target_headers: tuple[str, ...]
    host_headers: tuple[str, ...]
    target_libraries: tuple[str, ...]
    host_libraries: tuple[str, ...]
    stand_ins: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """Where CMake finds the target's CUDA and cuDNN: the toolkit, and the parents of their folders of headers."""
        return (self.root, *(folder.rpartition("/")[0] for folder in self.target_headers))

    @property
    def link_folders(self) -> tuple[str, ...]:
        """The linker's options that name the folders of the target's CUDA and cuDNN."""
        return tuple(f"-L{folder}" for folder in self.target_libraries)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The GPUs as CMake has them: ``53``."""
        return tuple(capability.replace(".", "") for capability in self.capabilities)

    @property
    def code_options(self) -> tuple[str, ...]:
        """nvcc's options for the GPUs: for each its code, and PTX for later ones."""
        return tuple(f"-gencode=arch=compute_{gpu},code=[sm_{gpu},compute_{gpu}]" for gpu in self.architectures)


@dataclass(frozen=True, kw_only=True)
class NvccWrapper:
    """A script in front of nvcc that is called as gcc is: ``path`` is where it lies, ``compiler`` what nvcc calls for
    the host's half of a source, ``arguments`` the program that turns the arguments into nvcc's, ``architectures`` the
    GPUs where the arguments name none."""

    path: str
    nvcc: str
    compiler: str
    options: tuple[tuple[str, ...], ...]
    architectures: tuple[str, ...]
    arguments: str
    path_variable: str


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """A script in front of a compiler.

    ``options`` come before the arguments, a line each; ``notes`` say why. ``arguments`` is the program that reads what
    the shell does not: arguments that match one of the patterns ``unread``. ``relocatable`` is whether what is linked
    goes into a wheel, and so must not name a folder of the build. In a flavour for CUDA, ``cuda`` gets its sources, and
    ``folders`` are the libraries' for what Bazel links.
    """

    name: str
    driver: str
    purpose: str
    notes: tuple[str, ...] = ()
    options: tuple[tuple[str, ...], ...]
    arguments: str
    relocatable: bool
    generators: tuple[str, ...] = GENERATORS
    libraries: tuple[str, ...] = LIBRARIES
    cuda: NvccWrapper | None = None
    folders: tuple[str, ...] = ()

    @property
    def unread(self) -> tuple[str, ...]:
        """Patterns of arguments that the shell does not read itself."""
        return (*_RESPONSE, *_RPATH) if self.relocatable else _RESPONSE


def target_wrapper(values: Mapping[str, Any], name: str, driver: str) -> Wrapper:
    """The wrapper of a compiler for the target; ``values`` are those of ``toolchains.values_of``."""
    triplet, sysroot, folder = values["triplet"], values["sysroot"], values["toolchain"]
    libraries = f"{sysroot}/usr/lib/{triplet}"
    headers = (
        *values["gcc_headers"],
        f"{sysroot}/usr/local/include",
        f"{sysroot}/usr/include/{triplet}",
        f"{sysroot}/usr/include",
        *((f"{values['python_root']}/usr/include",) if values["python_root"] != sysroot else ()),
    )
    cpu = tuple(values["cpu_flags"])
    return Wrapper(
        name=name,
        driver=driver,
        purpose="made to read nothing but the sysroot.",
        notes=(
            f"Debian's cross compiler searches its own /usr/{triplet} before --sysroot, so its search is switched off",
            "and the sysroot's folders are named. -idirafter keeps a native compiler's order: -I, -isystem, then",
            "these. The C++ headers are named in the specs, because Bazel compiles C++ with the C driver.",
        ),
        options=(
            (f"-specs={folder}/lib/target.specs",),
            ("-nostdinc",),
            *(("-idirafter", header) for header in headers),
            (f"--sysroot={sysroot}",),
            (f"-B{folder}/bin",),
            (f"-B{libraries}",),
            (f"-L{sysroot}/usr/lib/gcc/{triplet}/{values['gcc']}",),
            (f"-L{libraries}",),
            (f"-Wl,-rpath-link,{libraries}",),
            *((f"{_prefix_map(values['gcc'])}={old}={new}",) for old, new in values["prefix_map"]),
            *((cpu,) if cpu else ()),
        ),
        arguments=f"{folder}/lib/arguments.awk",
        relocatable=True,
    )


def _prefix_map(gcc: str) -> str:
    """The option by which a gcc names the build's folders otherwise: before 8 in debug information alone, and not in
    ``__FILE__`` (GCC 8's release notes)."""
    return "-ffile-prefix-map" if int(gcc.partition(".")[0]) >= 8 else "-fdebug-prefix-map"


def host_wrapper(values: Mapping[str, Any], name: str, driver: str) -> Wrapper:
    """The wrapper of a compiler for the builder itself."""
    return Wrapper(
        name=name,
        driver=driver,
        purpose="the builder's own, for the programs that run while the build runs.",
        options=(("-B/usr/bin",),),
        arguments=f"{values['toolchain']}/lib/arguments.awk",
        relocatable=False,
    )


def for_cuda(wrapper: Wrapper, cuda: Cuda, folder: str, *, host: bool) -> Wrapper:
    """The flavour of a wrapper for CUDA; ``folder`` is the toolchain's."""
    side = f"{folder}/host" if host else folder
    options = cuda.host_options if host else cuda.target_options
    return replace(
        wrapper,
        cuda=NvccWrapper(
            path=f"{side}/bin/cuda/nvcc",
            nvcc=cuda.nvcc,
            # The C driver, as Bazel has it; nvcc says which language it means.
            compiler=f"{side}/bin/cc",
            options=(options,) if options else (),
            architectures=cuda.code_options,
            arguments=f"{folder}/lib/nvcc.awk",
            path_variable=f"{side}/bin:/usr/bin:/bin",
        ),
        folders=cuda.host_libraries if host else (),
    )
