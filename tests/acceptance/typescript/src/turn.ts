// Holds one whole turn: node turn.js ADDRESS FOLDER MESSAGE. Prints what it saw as one JSON object.
import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ApprovalVerdict } from "../generated/agent_runtime/v1/approval_pb.js";
import { ChatService } from "../generated/agent_runtime/v1/chat_service_pb.js";
import { TurnState, type SessionEvent } from "../generated/agent_runtime/v1/event_pb.js";
import { SessionService } from "../generated/agent_runtime/v1/session_service_pb.js";
import { Outbox } from "./frames.js";
import { run } from "./tools.js";

const [address, folder, message] = process.argv.slice(2);
if (address === undefined || folder === undefined || message === undefined) {
  throw new Error("usage: turn.js ADDRESS FOLDER MESSAGE");
}

const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const { session } = await createClient(SessionService, transport).createSession({ agentId: "coder" });
const outbox = new Outbox();
const seen = { seqs: [] as number[], deltas: "", text: "", state: "" };

async function take(event: SessionEvent): Promise<void> {
  seen.seqs.push(Number(event.seq));
  const payload = event.payload;
  switch (payload.case) {
    case "approvalRequested": {
      const { approvalId, revision, toolCall } = payload.value.approval!;
      const value = {
        approvalId,
        expectedRevision: revision,
        argumentsSha256: toolCall!.argumentsSha256,
        verdict: ApprovalVerdict.APPROVE,
      };
      outbox.send({ frameId: randomUUID(), frame: { case: "approvalDecision", value } });
      break;
    }
    case "toolCallDispatched": {
      const call = payload.value.toolCall!;
      outbox.send({ frameId: randomUUID(), frame: { case: "toolCallStarted", value: { callId: call.callId } } });
      outbox.send({ frameId: randomUUID(), frame: { case: "toolResult", value: await run(call, folder!) } });
      break;
    }
    case "assistantMessage":
      seen.text = payload.value.parts.map((part) => (part.payload.case === "text" ? part.payload.value : "")).join("");
      break;
    case "turnFinished":
      seen.state = TurnState[payload.value.state]!;
      outbox.end();
      break;
  }
}

const tools = [{ name: "read_file" }, { name: "write_file" }];
const hello = { sessionId: session!.sessionId, clientId: randomUUID(), protocolVersion: 1, tools };
outbox.send({ frame: { case: "hello", value: hello } });
for await (const { frame } of createClient(ChatService, transport).chat(outbox)) {
  if (frame.case === "caughtUp") {
    const parts = [{ payload: { case: "text" as const, value: message } }];
    outbox.send({ frameId: randomUUID(), frame: { case: "userMessage", value: { parts } } });
  } else if (frame.case === "messageDelta") {
    seen.deltas += frame.value.text;
  } else if (frame.case === "frameAck" && frame.value.error !== undefined) {
    throw new Error(`${frame.value.error.reason}: ${frame.value.error.message}`);
  } else if (frame.case === "event") {
    await take(frame.value);
  }
}
console.log(JSON.stringify(seen));
