"""The steps that make roots of a distribution's packages: sysroots, builders, target roots, the emulator's."""

from __future__ import annotations

from crosswheel.planning.render import Renderer
from crosswheel.planning.steps import ImageStep, LockStep, RootStep, Step
from crosswheel.planning.toolchains import DEB_ARCH, HOST_ARCH
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Part, Toolkit
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.sysroots import Sysroot
from crosswheel.spec.targets import Toolchain


def root_step(
    catalog: Catalog, sysroot: Sysroot, arch: Arch, packages: tuple[str, ...], purpose: str, lock: str
) -> RootStep:
    """An extracted root of packages of a distribution. ``lock`` is the name under which a pinned lock is looked for."""
    of = (sysroot.name, sysroot.suites_for(arch), sysroot.snapshot, arch, packages, purpose, lock)
    return catalog.once("root", of, lambda: _root_step(catalog, sysroot, arch, packages, purpose, lock))


def _root_step(
    catalog: Catalog, sysroot: Sysroot, arch: Arch, packages: tuple[str, ...], purpose: str, lock: str
) -> RootStep:
    resolved = LockStep(
        name=f"resolve {purpose}",
        lock=lock,
        architecture=DEB_ARCH[arch],
        suites=sysroot.suites_for(arch),
        packages=packages,
        snapshot=sysroot.snapshot,
        pinned=catalog.lock_text(lock),
        vendors=_vendors(catalog),
    )
    return RootStep(name=f"assemble {purpose}", inputs={"lock": resolved})


def _vendors(catalog: Catalog) -> dict[str, str]:
    """Whose packages an archive has, by its name."""
    return {name: archive.vendor for name, archive in catalog.archives.items() if archive.vendor}


def parts_step(catalog: Catalog, part: Part, purpose: str) -> RootStep:
    """The files of a part's packages, without what they depend on."""
    first = part.suites[0]
    where = "-".join(word for word in (first.archive, first.name.strip("./").replace("/", "-")) if word)
    lock = f"{where}-{part.packages[0].partition('=')[0]}-{DEB_ARCH[part.arch]}"
    resolved = LockStep(
        name=f"resolve {purpose}",
        lock=lock,
        architecture=DEB_ARCH[part.arch],
        suites=part.suites,
        packages=part.packages,
        snapshot=part.snapshot,
        pinned=catalog.lock_text(lock),
        dependencies=False,
        vendors=_vendors(catalog),
    )
    return RootStep(name=f"extract {purpose}", inputs={"lock": resolved})


def sysroot_step(
    catalog: Catalog,
    name: str,
    arch: Arch,
    recipe: Recipe | None = None,
    *,
    numpy: bool = False,
    toolchain: Toolchain | None = None,
) -> RootStep:
    """What a wheel is built against: with the headers of every Python of the distribution, so that all of them share
    what is compiled against it; with ``numpy``, those of their NumPy as well; with those that ``recipe`` wants, and
    ``toolchain``, whose C++ library may be another than the distribution's newest."""
    sysroot = catalog.sysroot(name)
    more = recipe.development if recipe else ()
    compiler = toolchain.development if toolchain else ()
    lock = f"{name}-{DEB_ARCH[arch]}-development" + (f"-{recipe.name}" if recipe and more else "")
    lock += f"-{toolchain.name}" if toolchain and compiler else ""
    lock += "-numpy" if numpy else ""
    packages = {*sysroot.development, *more, *compiler}
    for python in sysroot.pythons.values():
        packages |= {*python.development, *((python.numpy,) if numpy and python.numpy else ())}
    return root_step(catalog, sysroot, arch, tuple(sorted(packages)), f"sysroot {name} {arch}", lock)


def builder_step(
    catalog: Catalog, name: str, arch: Arch, image: str | None = None, recipe: Recipe | None = None
) -> Step:
    """The root in which a toolchain's builds for ``arch`` run, with what ``recipe`` wants in it; ``image``, by digest,
    is what it is made ``FROM``."""
    toolchain = catalog.toolchain(name)
    more = recipe.builder if recipe else ()
    packages = (*toolchain.packages, *toolchain.cross[arch], *more)
    if image:
        values = {"image": image, "packages": sorted(packages)}
        text = Renderer(catalog).render("dockerfile/builder.j2", values)
        return ImageStep(name=f"build builder {name} {arch} from {image[:40]}", image=image, dockerfile=text)
    lock = f"{name}-{DEB_ARCH[arch]}-builder" + (f"-{recipe.name}" if recipe and more else "")
    return root_step(catalog, catalog.sysroot(toolchain.sysroot), HOST_ARCH, packages, f"builder {name} {arch}", lock)


def target_root_step(
    catalog: Catalog,
    name: str,
    arch: Arch,
    python: str,
    recipe: Recipe | None = None,
    *,
    numpy: bool = False,
    toolkit: Toolkit | None = None,
) -> RootStep:
    """The root in which a wheel is tried: the target's runtime with one of its Pythons, and the packages that a
    recipe's wheel and its check need. For a wheel with CUDA, some of them come from where the ``toolkit`` does."""
    sysroot = catalog.sysroot(name)
    if toolkit:
        more = [suite for part in toolkit.target.get(arch, ()) for suite in part.suites]
        sysroot = sysroot.model_copy(update={"suites": tuple(dict.fromkeys((*sysroot.suites, *more)))})
    own = sysroot.pythons[python]
    lock = f"{name}-{DEB_ARCH[arch]}-runtime" + (f"-{recipe.name}" if recipe else "")
    if python != next(iter(sysroot.pythons)):
        lock += f"-python{python}"
    wanted = _of_recipe(recipe, name) if recipe else ()
    packages = {*sysroot.runtime, *own.runtime, *wanted}
    if numpy and own.numpy:
        packages.add(own.numpy)
    return root_step(catalog, sysroot, arch, tuple(sorted(packages)), f"target root {name} {arch}", lock)


SHELL = "dash"
"""The package of the shell that starts one program of a bundle for another; it is in ``/bin`` under its own name."""


def attempts_root_step(catalog: Catalog, name: str, arch: Arch) -> RootStep:
    """The root in which a bundle is tried: the target's runtime, without any Python, and a shell."""
    sysroot = catalog.sysroot(name)
    packages = tuple(sorted({*sysroot.runtime, SHELL}))
    lock = f"{name}-{DEB_ARCH[arch]}-attempts"
    return root_step(catalog, sysroot, arch, packages, f"target root of bundles {name} {arch}", lock)


def _of_recipe(recipe: Recipe, sysroot: str) -> tuple[str, ...]:
    """The packages of a distribution that a recipe's wheel loads and its check needs."""
    check = recipe.check
    wanted = (*check.packages, *check.only.get(sysroot, ())) if check else ()
    return (*recipe.runtime.get(sysroot, ()), *wanted)


def emulator_step(catalog: Catalog) -> RootStep:
    """The root that holds qemu-user."""
    emulator = catalog.emulator
    sysroot = catalog.sysroot(emulator.sysroot)
    return root_step(catalog, sysroot, HOST_ARCH, emulator.packages, "emulator", "emulator")


def debugger_step(catalog: Catalog) -> RootStep:
    """The root that holds gdb. No step has it as an input: it is made when a fault is to be traced."""
    emulator = catalog.emulator
    sysroot = catalog.sysroot(emulator.sysroot)
    return root_step(catalog, sysroot, HOST_ARCH, emulator.debugger.packages, "debugger", "debugger")
