"""The exit status of `agent-runtime health` is that of a probe."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import agent_runtime_cli as cli

STATES = {
    "": health_pb2.HealthCheckResponse.SERVING,
    "dependency.llm": health_pb2.HealthCheckResponse.NOT_SERVING,
}


@contextmanager
def probed() -> Iterator[str]:
    """Serve health; `hangs` never answers, other names are unknown."""
    over = Event()

    def check(request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if request.service == "hangs":
            over.wait(60)
        if request.service not in STATES:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=STATES[request.service])

    codec = (health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString)
    methods = {"Check": grpc.unary_unary_rpc_method_handler(check, *codec)}
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            over.set()
            server.stop(0).wait()


def test_the_answer_decides(capsys: pytest.CaptureFixture[str]) -> None:
    with probed() as target:
        assert cli.run(["health", "--target", target]) == 0
        assert cli.run(["health", "dependency.llm", "--target", target]) == 4
        assert capsys.readouterr().out.split() == ["SERVING", "NOT_SERVING"]
        assert cli.run(["health", "unknown", "--target", target]) == 3
        assert cli.run(["health", "hangs", "--target", target, "--timeout", "0.5"]) == 3
        assert capsys.readouterr().err.count("\n") == 2


def test_no_connection_is_told_from_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        assert cli.run(["health", "--target", target, "--timeout", "0.5"]) == 2
        assert "no connection" in capsys.readouterr().err
    assert cli.run(["health", "--target", target]) == 2


@pytest.mark.parametrize(
    "arguments", [["--addr", "nonsense"], ["--timeout", "0"], ["--timeout", "nan"], ["--tls-cert", "only.pem"], ["--x"]]
)
def test_bad_arguments(arguments: list[str]) -> None:
    assert cli.run(["health", *arguments]) == 1
