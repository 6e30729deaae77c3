"""An AgentOS of agno over HTTP, its events as SSE. Runs in the peer's environment."""

# mypy: ignore-errors
import socket
import sys
from urllib.parse import urlencode

sys.path.pop(0)  # this folder, in which agno would be this file

import uvicorn
from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.models.openai.like import OpenAILike
from agno.os import AgentOS

MODEL, TEXT = sys.argv[1:3]


def main():
    """Serve, and say how it is asked."""
    model = OpenAILike(id="bench", base_url=MODEL, api_key="none")
    agent = Agent(id="bench", model=model, db=InMemoryDb(), telemetry=False)
    app = AgentOS(agents=[agent], telemetry=False).get_app()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    body = urlencode({"message": TEXT, "stream": "true"}).encode()
    head = b"POST /agents/bench/runs HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    port = listening.getsockname()[1]
    sys.stdout.write(f"ready http http://127.0.0.1:{port} {request.hex()}\n")
    sys.stdout.flush()
    uvicorn.run(app, fd=listening.fileno(), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
