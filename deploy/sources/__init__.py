"""Networks and data sets, by specification. The specifications import no torch; `build` and `load` do."""

from deploy.sources.datasets.data import DataSource, DataSpec, data_availability, load
from deploy.sources.network import build, provenance
from deploy.sources.network_spec import NetworkSpec

__all__ = ["DataSource", "DataSpec", "NetworkSpec", "build", "data_availability", "load", "provenance"]
