import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ToolResult_Status, type ToolCall, type ToolResultSchema } from "../generated/agent_runtime/v1/tool_pb.js";

/** Runs a call in the folder: this client can read and write files. */
export async function run(call: ToolCall, folder: string): Promise<MessageInitShape<typeof ToolResultSchema>> {
  const given = JSON.parse(call.argumentsJson) as { path: string; content?: string };
  const path = join(folder, given.path);
  if (call.toolName === "write_file") {
    await writeFile(path, given.content ?? "");
    return succeeded(call, "written");
  }
  return succeeded(call, await readFile(path, "utf8"));
}

function succeeded(call: ToolCall, text: string): MessageInitShape<typeof ToolResultSchema> {
  const content = [{ payload: { case: "text" as const, value: text } }];
  return { callId: call.callId, status: ToolResult_Status.SUCCEEDED, content };
}
