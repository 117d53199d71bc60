/** When to try again after a failure, and when to give up: what streams, uploads and waiting for operations share. */

import { setTimeout as sleep } from "node:timers/promises";
import { AssayError } from "./errors.js";

/** How often and how fast to try again. */
export interface RetryBehaviour {
  /** Failures in a row, without anything gained between them, after which the last one is thrown. */
  readonly attempts: number;
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  readonly signal: AbortSignal | undefined;
}

export class Patience {
  readonly #behaviour: RetryBehaviour;
  #failures = 0;

  constructor(behaviour: RetryBehaviour) {
    this.#behaviour = behaviour;
  }

  /** Something was gained: the count starts again. */
  progressed(): void {
    this.#failures = 0;
  }

  /** Waits before the next try, or throws the error if there is to be none. */
  async wait(error: unknown): Promise<void> {
    const { attempts, initialBackoffMs, maxBackoffMs, signal } = this.#behaviour;
    this.#failures += 1;
    if (!(error instanceof AssayError) || !error.transient || this.#failures >= attempts) throw error;
    const ceiling = Math.min(maxBackoffMs, initialBackoffMs * 2 ** (this.#failures - 1));
    const jittered = ceiling * (0.5 + Math.random() / 2);
    const asked = (error.retryAfterSeconds ?? 0) * 1000;
    try {
      await sleep(Math.max(jittered, asked), undefined, signal === undefined ? {} : { signal });
    } catch {
      signal?.throwIfAborted();
    }
  }
}
