/** The sending half of a streaming call: back-pressure, and knowing when the call is over. */

import type { ClientDuplexStream, ClientWritableStream } from "@grpc/grpc-js";

/** A call that this side streams into, whatever comes back. */
export type SendingCall<Request> = ClientWritableStream<Request> | ClientDuplexStream<Request, never>;

/** One call: sends with back-pressure, and says when it is over. */
export class Connection<Request> {
  readonly #call: SendingCall<Request>;
  readonly #signal: AbortSignal | undefined;
  readonly #waiting = new Set<() => void>();
  #closed = false;
  /** Why this side gave the call up; undefined where it did not. */
  failure: { readonly reason: unknown } | undefined;

  readonly #abort = (): void => this.fail(this.#signal?.reason);

  constructor(call: SendingCall<Request>, signal: AbortSignal | undefined) {
    this.#call = call;
    this.#signal = signal;
    // The reader throws the error; without a listener the event would end the process.
    call.on("error", () => this.#over());
    call.on("status", () => this.#over());
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (signal?.aborted === true) this.#abort();
  }

  /** Writes one message, and waits while the transport is full. Returns at once when the call is over. */
  async send(message: Request): Promise<void> {
    if (this.#closed || this.#call.write(message)) return;
    await this.closedBefore(new Promise<void>((resolve) => this.#call.once("drain", resolve)));
  }

  /** Says that this side has nothing more to send. */
  end(): void {
    if (!this.#closed) this.#call.end();
  }

  /**
   * Waits for the first of `event` and the call's end; true where the call is over. Rejects as `event` does.
   * Not a `Promise.race` with one promise for the call's end: that would keep every event of a long call in memory.
   */
  closedBefore(event: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return resolve(true);
      const leave = (): void => resolve(true);
      this.#waiting.add(leave);
      event.finally(() => this.#waiting.delete(leave)).then(() => resolve(this.#closed), reject);
    });
  }

  /** Gives the call up because of this side's own `reason`. */
  fail(reason: unknown): void {
    this.failure ??= { reason };
    this.#call.cancel();
  }

  /** Frees whatever the call still holds. */
  close(): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#over();
    this.#call.cancel();
  }

  #over(): void {
    this.#closed = true;
    for (const leave of this.#waiting) leave();
    this.#waiting.clear();
  }
}
