"""The command line, the pipeline and the report: the only package that knows the other three."""

from deploy.errors import DeployError

__all__ = ["DeployError"]
