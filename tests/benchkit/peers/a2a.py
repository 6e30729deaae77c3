"""An A2A server over gRPC, made with a2a-sdk: one artifact chunk a token. Runs in the peer's environment."""

# mypy: ignore-errors
import asyncio
import json
import sys
import uuid

sys.path.pop(0)  # this folder, in which a2a would be this file

import grpc
import httpx
import uvloop
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.grpc_handler import GrpcHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2, a2a_pb2_grpc

MODEL, TEXT = sys.argv[1:3]


class Relay(AgentExecutor):
    """Asks the model, and passes each token on."""

    def __init__(self):
        self.client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=16))

    async def execute(self, context, event_queue):
        """Take one turn."""
        state = a2a_pb2.TaskState.Value("TASK_STATE_SUBMITTED")
        status = a2a_pb2.TaskStatus(state=state)
        await event_queue.enqueue_event(
            a2a_pb2.Task(id=context.task_id, context_id=context.context_id, status=status, history=[context.message])
        )
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        artifact, number = uuid.uuid4().hex, 0
        messages = [{"role": "user", "content": context.get_user_input()}]
        asked = {"model": "bench", "messages": messages, "stream": True}
        async with self.client.stream("POST", f"{MODEL}/chat/completions", json=asked) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                choices = json.loads(line[6:])["choices"]
                token = choices[0]["delta"].get("content") if choices else None
                if token:
                    part = a2a_pb2.Part(text=token)
                    await updater.add_artifact([part], artifact_id=artifact, append=number > 0)
                    number += 1
        await updater.complete()

    async def cancel(self, context, event_queue):
        """Nobody does."""
        raise NotImplementedError


async def serve():
    """Serve, and say how it is asked."""
    card = a2a_pb2.AgentCard(name="bench", capabilities=a2a_pb2.AgentCapabilities(streaming=True))
    server = grpc.aio.server()
    handler = DefaultRequestHandler(agent_executor=Relay(), task_store=InMemoryTaskStore(), agent_card=card)
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    role = a2a_pb2.Role.Value("ROLE_USER")
    message = a2a_pb2.Message(message_id=uuid.uuid4().hex, role=role, parts=[a2a_pb2.Part(text=TEXT)])
    request = a2a_pb2.SendMessageRequest(message=message).SerializeToString()
    service = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"].full_name
    sys.stdout.write(f"ready stream 127.0.0.1:{port} /{service}/SendStreamingMessage {request.hex()}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
