"""The tasks of crosswheel, as one Invoke collection called ``ns``."""

from __future__ import annotations

from invoke.collection import Collection

from crosswheel.cli import build as _build
from crosswheel.cli import cudnn as _cudnn
from crosswheel.cli import doctor as _doctor
from crosswheel.cli import drafting as _drafting
from crosswheel.cli import headers as _headers
from crosswheel.cli import index as _index
from crosswheel.cli import inspect as _inspect
from crosswheel.cli import matrix as _matrix
from crosswheel.cli import mirroring as _mirroring
from crosswheel.cli import project as _project
from crosswheel.cli import provenance as _provenance
from crosswheel.cli import publish as _publish
from crosswheel.cli import recipes as _recipes
from crosswheel.cli import rendering_ci as _rendering_ci
from crosswheel.cli import report as _report
from crosswheel.cli import upkeep as _upkeep
from crosswheel.cli.arguments import teach_parser
from crosswheel.cli.program import teach_data
from crosswheel.cli.settings import CHECKOUT
from crosswheel.cli.usage import teach_program

teach_parser()
teach_program()
teach_data()

ns = Collection(
    _build.build,
    _build.plan_task,
    _mirroring.mirror,
    _cudnn.cudnn,
    _inspect.list_task,
    _inspect.check,
    _inspect.explain,
    _inspect.log,
    _inspect.shell,
    _inspect.verify,
    _provenance.sign,
    _upkeep.clean,
    _upkeep.sysroot,
    _upkeep.toolchain,
    _headers.headers,
    _upkeep.patches,
    _publish.publish,
    _recipes.recipe,
    _doctor.doctor,
)
ns.add_collection(_drafting.new)
ns.add_collection(_index.tasks)
_matrix.tasks.add_task(_rendering_ci.render_task)
ns.add_collection(_matrix.tasks)
ns.add_collection(_report.tasks)

if CHECKOUT:  # what is for those who work on crosswheel
    for _task in (_upkeep.status, _project.test, _project.lint, _project.bench):
        ns.add_task(_task)
