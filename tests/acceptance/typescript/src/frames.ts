import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ChatRequestSchema } from "../generated/agent_runtime/v1/chat_service_pb.js";

export type Frame = MessageInitShape<typeof ChatRequestSchema>;

/** The frames a client sends: an endless list that is read while it is written. */
export class Outbox implements AsyncIterable<Frame> {
  private readonly waiting: Frame[] = [];
  private ended = false;
  private wake: () => void = () => {};

  send(frame: Frame): void {
    this.waiting.push(frame);
    this.wake();
  }

  /** Half-close. */
  end(): void {
    this.ended = true;
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame> {
    for (;;) {
      const next = this.waiting.shift();
      if (next !== undefined) {
        yield next;
      } else if (this.ended) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.wake = resolve));
      }
    }
  }
}
