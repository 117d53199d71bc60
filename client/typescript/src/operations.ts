/**
 * Long work on the server: a handle to wait for it, watch it, cancel it, and find it again by its name.
 *
 * Invariants: the work is the server's, and leaving `wait` (by an abort or an error) does not stop it; a server that dies
 * and comes back takes it up again, and `wait` goes on waiting.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { AssayError } from "./errors.js";
import { OperationMetadata } from "./gen/assay/v1/operations.js";
import type { Operation as Message } from "./gen/google/longrunning/operations.js";
import type { Any } from "./gen/google/protobuf/any.js";
import { Patience } from "./patience.js";

/** How `wait` waits. */
export interface WaitOptions {
  /** Called with each new state. */
  readonly onProgress?: (progress: OperationMetadata) => void;
  /** Ends the waiting, with the signal's reason; the work goes on. */
  readonly signal?: AbortSignal;
  /** Failures in a row to ask after which waiting ends. Default: 10. */
  readonly attempts?: number;
}

/** What an operation asks of its client. */
export interface OperationCalls {
  readonly look: (name: string, signal: AbortSignal | undefined) => Promise<Message>;
  readonly stop: (name: string) => Promise<void>;
}

/** Reads the resource that an operation made. */
export type ReadResult<Result> = (response: Any) => Result;

const FIRST_POLL_MS = 50;
const POLL_MS = 1000;
const POLL_SHARE = 0.1; // of the time waited so far: nobody waits a tenth longer than the work took

/** Work that goes on on the server. */
export class Operation<Result> {
  readonly #calls: OperationCalls;
  readonly #read: ReadResult<Result>;
  #last: Message;

  constructor(first: Message, calls: OperationCalls, read: ReadResult<Result>) {
    this.#last = first;
    this.#calls = calls;
    this.#read = read;
  }

  /** Its name, to find it again with: `Client.resumeAudit`. */
  get name(): string {
    return this.#last.name;
  }

  /** Whether it was over when last looked at. */
  get done(): boolean {
    return this.#last.done;
  }

  /** How far it was when last looked at. */
  get progress(): OperationMetadata {
    const { metadata } = this.#last;
    return OperationMetadata.decode(metadata?.value ?? new Uint8Array());
  }

  /** The result, once it is there; rejects with what the work failed of. */
  async wait({ onProgress, signal, attempts = 10 }: WaitOptions = {}): Promise<Result> {
    const patience = new Patience({ attempts, initialBackoffMs: 200, maxBackoffMs: 5000, signal });
    const start = performance.now();
    onProgress?.(this.progress);
    while (!this.#last.done) {
      const pause = Math.min(POLL_MS, Math.max(FIRST_POLL_MS, POLL_SHARE * (performance.now() - start)));
      await sleep(pause, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      signal?.throwIfAborted();
      try {
        const next = await this.#calls.look(this.name, signal);
        const moved = !sameBytes(next.metadata?.value, this.#last.metadata?.value);
        this.#last = next;
        patience.progressed();
        if (moved) onProgress?.(this.progress);
      } catch (error) {
        signal?.throwIfAborted();
        await patience.wait(error);
      }
    }
    return this.#outcome();
  }

  /** Asks the server to stop it; `wait` tells when it has. */
  cancel(): Promise<void> {
    return this.#calls.stop(this.name);
  }

  #outcome(): Result {
    const { result } = this.#last;
    switch (result?.$case) {
      case "response":
        return this.#read(result.value);
      case "error":
        throw AssayError.fromStatus(result.value);
      default:
        throw new AssayError(status.UNKNOWN, `${this.name} is over with neither a result nor an error`, {
          reason: "BAD_ANSWER",
        });
    }
  }
}

function sameBytes(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return Buffer.compare(one ?? new Uint8Array(), other ?? new Uint8Array()) === 0;
}
