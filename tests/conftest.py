"""Fixtures that any test may ask for."""

import os

# Stores run as another user, so starting one forks, and gRPC's own handlers of a fork crash the child now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ("enginekit.postgres", "enginekit.standby")
