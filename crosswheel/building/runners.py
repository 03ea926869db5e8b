"""Which function does the work of which kind of step. Each is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswheel.building.job import Job, Settings
from crosswheel.planning import arranging, cudnn, installing, steps
from crosswheel.spec.catalog import Catalog

if TYPE_CHECKING:
    from crosswheel.building.tracing import Tracer

Runner = Callable[[Any, Mapping[str, Path], Job], None]


def runners(catalog: Catalog, settings: Settings) -> Mapping[type[steps.Step], Runner]:
    """The runners of all kinds of step, with the archives of ``catalog`` and the sandbox of ``settings``."""
    return {**_getting(catalog), **_writing(), **_running(catalog, settings)}


def _getting(catalog: Catalog) -> dict[type[steps.Step], Runner]:
    """Those that reach the network."""

    def fetch(step: steps.FetchStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.sources.fetch import run_fetch

        run_fetch(step, inputs, job, archives=catalog.archives)

    def members(step: arranging.MembersStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.sources.members import run_members

        run_members(step, inputs, job, archives=catalog.archives)

    def lock(step: steps.LockStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.debian.apt import run_lock

        run_lock(step, inputs, job, archives=catalog.archives)

    def root(step: steps.RootStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.debian.roots import run_root

        run_root(step, inputs, job, archives=catalog.archives)

    def install(step: installing.InstallStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.debian.forced import run_install

        run_install(step, inputs, job, archives=catalog.archives)

    def image(step: steps.ImageStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.sandbox.images import run_image

        run_image(step, inputs, job)

    return {
        steps.FetchStep: fetch,
        arranging.MembersStep: members,
        steps.LockStep: lock,
        steps.RootStep: root,
        steps.ImageStep: image,
        installing.InstallStep: install,
    }


def _writing() -> dict[type[steps.Step], Runner]:
    """Those that work on files of this machine."""

    def local(step: steps.LocalStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.runs import run_local

        run_local(step, inputs, job)

    def tree(step: steps.TreeStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.sources.patch import run_tree

        run_tree(step, inputs, job)

    def cache(step: steps.RepositoryCacheStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.sources.externals import run_repository_cache

        run_repository_cache(step, inputs, job)

    def arrange(step: arranging.ArrangeStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.arranging import run_arrange

        run_arrange(step, inputs, job)

    def lay_cudnn(step: cudnn.CudnnStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.cudnn import run_cudnn

        run_cudnn(step, inputs, job)

    def files(step: steps.FilesStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.runs import run_files

        run_files(step, inputs, job)

    def wheel(step: steps.WheelStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.wheels import run_wheel

        run_wheel(step, inputs, job)

    def bundle(step: steps.BundleStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.bundles import run_bundle

        run_bundle(step, inputs, job)

    return {
        steps.LocalStep: local,
        steps.TreeStep: tree,
        steps.RepositoryCacheStep: cache,
        arranging.ArrangeStep: arrange,
        cudnn.CudnnStep: lay_cudnn,
        steps.FilesStep: files,
        steps.WheelStep: wheel,
        steps.BundleStep: bundle,
    }


def _running(catalog: Catalog, settings: Settings) -> dict[type[steps.Step], Runner]:
    """Those that run commands in the sandbox."""

    def run(step: steps.RunStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.runs import run_run
        from crosswheel.building.sandbox import sandbox_for

        run_run(step, inputs, job, sandbox=sandbox_for(settings))

    def proof(step: steps.ProofStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.proofs import run_proof
        from crosswheel.building.sandbox import sandbox_for

        run_proof(step, inputs, job, sandbox=sandbox_for(settings), tracer=_tracer(catalog, settings))

    def bundle_proof(step: steps.BundleProofStep, inputs: Mapping[str, Path], job: Job) -> None:
        from crosswheel.building.bundles import run_bundle_proof
        from crosswheel.building.sandbox import sandbox_for

        run_bundle_proof(step, inputs, job, sandbox=sandbox_for(settings), tracer=_tracer(catalog, settings))

    return {steps.RunStep: run, steps.ProofStep: proof, steps.BundleProofStep: bundle_proof}


_DEBUGGER_SECONDS = 600
"""Within this time the debugger is fetched (43 MB), or a fault is not traced."""


def _tracer(catalog: Catalog, settings: Settings) -> Tracer:
    """What traces faults, with a root that is made when it is first needed."""
    from crosswheel.building.later import made_later
    from crosswheel.building.tracing import Tracer
    from crosswheel.planning.roots import debugger_step

    def make(job: Job) -> Path:
        return made_later(debugger_step(catalog), job, runners(catalog, settings), seconds=_DEBUGGER_SECONDS)

    return Tracer(debugger=catalog.emulator.debugger, make=make)
