"""The pytest plug-in: ``deploy_compare``, ``deploy_measure`` and the marker ``model_speed``; see docs/ci/pytest.md.

It is loaded into the tests of people who have packages called ``deploy``, ``benchmarks`` or ``tests`` of their own, so
nothing here imports anything of ours: a process of ours is asked (`asking`), and its answer is a file.
"""

from prune_deploy_pytest.fixtures import DeployCompare, DeployMeasure
from prune_deploy_pytest.records import ComparedModels, MeasuredModel, ModelSpeedError, ModelSpeedWarning

__all__ = [
    "ComparedModels",
    "DeployCompare",
    "DeployMeasure",
    "MeasuredModel",
    "ModelSpeedError",
    "ModelSpeedWarning",
]
