"""The pytest plug-in: ``deploy_compare``, ``deploy_measure`` and the marker ``model_speed``; see docs/ci/pytest.md.

It is loaded into test suites whose projects may have their own packages called ``deploy``, ``benchmarks`` or
``tests``, so it imports none of our other packages: a separate process measures (`asking`) and answers with a file.
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
