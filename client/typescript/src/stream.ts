/**
 * One logical stream of pairs over as many connections as it takes.
 *
 * Invariants:
 *
 * - Outcomes come out in the order in which pairs went in, one for each, whatever breaks in between: a batch stays in
 *   `#unanswered` until its answer was handed over, and a new connection starts with exactly what is in there.
 * - The source is read no further ahead than `maxPairsInFlight` (one batch at least), and answers are read no faster
 *   than the caller takes them, so that a slow caller slows the server and not the other way round.
 * - However the caller leaves (end, `break`, abort, an error of the source), the call is cancelled or over, the source
 *   is told, and no timer is left.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { type ClientDuplexStream, status } from "@grpc/grpc-js";
import type { Batch, Batcher } from "./batches.js";
import { AssayError } from "./errors.js";
import type { PairScore, ScoreOptions, StreamPairsRequest, StreamPairsResponse } from "./gen/assay/v1/scoring.js";
import { type Outcome, toOutcome } from "./items.js";

export type StreamCall = ClientDuplexStream<StreamPairsRequest, StreamPairsResponse>;

/** How a stream behaves; `Client.score` documents the defaults. */
export interface StreamBehaviour {
  readonly options: ScoreOptions;
  readonly maxPairsInFlight: number;
  readonly maxBytes: number;
  /** Connections in a row that may break without one answer between them. */
  readonly attempts: number;
  readonly initialBackoffMs: number;
  readonly maxBackoffMs: number;
  readonly signal: AbortSignal | undefined;
}

/** What one turn of reading brought: an answer, the end of the call, or a batch to be answered here. */
type Turn = IteratorResult<StreamPairsResponse, unknown> | "changed";

export class PairStream {
  readonly #open: () => StreamCall;
  readonly #batcher: Batcher;
  readonly #behaviour: StreamBehaviour;
  readonly #changed = new Signal();
  #unanswered: Batch[] = [];
  #finished = false;
  #failures = 0;

  constructor(open: () => StreamCall, batcher: Batcher, behaviour: StreamBehaviour) {
    this.#open = open;
    this.#batcher = batcher;
    this.#behaviour = behaviour;
  }

  /** The outcomes. To be iterated once. */
  async *outcomes(): AsyncGenerator<Outcome<PairScore>, void, undefined> {
    const { signal } = this.#behaviour;
    try {
      while (!this.#finished) {
        signal?.throwIfAborted();
        try {
          yield* this.#connection();
        } catch (error) {
          signal?.throwIfAborted();
          if (this.#batcher.failure !== undefined && error === this.#batcher.failure.reason) throw error;
          await this.#backOff(error);
        }
      }
    } finally {
      this.#batcher.close();
    }
  }

  /** Reads one connection to its end; throws what ended it early. */
  async *#connection(): AsyncGenerator<Outcome<PairScore>, void, undefined> {
    const call = this.#open();
    const connection = new Connection(call, this.#behaviour.signal);
    const writing = this.#write(connection).catch((error: unknown) => connection.fail(error));
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<StreamPairsResponse, unknown>;
    let answer: Promise<IteratorResult<StreamPairsResponse, unknown>> | undefined;
    try {
      for (;;) {
        const changed = this.#changed.next();
        yield* this.#refusals();
        answer ??= answers.next();
        const turn: Turn = await Promise.race([answer, changed]);
        if (turn === "changed") continue;
        if (turn.done === true) break;
        answer = undefined;
        yield* this.#accept(turn.value);
      }
      this.#end();
    } catch (error) {
      throw connection.failure === undefined ? AssayError.fromCall(error) : connection.failure.reason;
    } finally {
      answer?.catch(() => undefined);
      connection.close();
      await writing;
    }
  }

  /** Sends the options, what an earlier connection left unanswered, and then the source. */
  async #write(connection: Connection): Promise<void> {
    const { options } = this.#behaviour;
    await connection.send({ payload: { $case: "options", value: { score: options } } });
    for (const batch of [...this.#unanswered]) await this.#send(connection, batch);
    for (;;) {
      while (this.#full()) {
        if (await connection.closedBefore(this.#changed.next())) return;
      }
      const waiting = this.#batcher.peek();
      if (await connection.closedBefore(waiting)) return;
      const batch = await waiting;
      if (batch === undefined) return connection.end();
      this.#batcher.take();
      this.#unanswered.push(batch);
      if (batch.oversized === undefined) await this.#send(connection, batch);
      else this.#changed.fire();
    }
  }

  async #send(connection: Connection, { sequence, pairs, oversized }: Batch): Promise<void> {
    if (oversized !== undefined) return;
    await connection.send({ payload: { $case: "batch", value: { sequence, pairs: [...pairs] } } });
  }

  #full(): boolean {
    const pairs = this.#unanswered.reduce((sum, batch) => sum + batch.pairs.length, 0);
    return pairs >= this.#behaviour.maxPairsInFlight;
  }

  /** Hands over the answer to the batch whose turn it is. */
  *#accept({ sequence, results }: StreamPairsResponse): Generator<Outcome<PairScore>, void, undefined> {
    const batch = this.#unanswered[0];
    if (batch === undefined || sequence !== batch.sequence || results.length !== batch.pairs.length) {
      const wanted = batch === undefined ? "nothing" : `batch ${batch.sequence} of ${batch.pairs.length} pairs`;
      throw new AssayError(
        status.INTERNAL,
        `the server answered batch ${sequence} with ${results.length} results where ${wanted} was due`,
        { reason: "BAD_ANSWER" },
      );
    }
    this.#failures = 0;
    this.#unanswered.shift();
    this.#changed.fire();
    for (const [offset, result] of results.entries()) yield toOutcome(result, batch.first + offset);
  }

  /** Answers the pairs that no message can hold, as far as it is their turn. */
  *#refusals(): Generator<Outcome<PairScore>, void, undefined> {
    for (let head = this.#unanswered[0]; head?.oversized !== undefined; head = this.#unanswered[0]) {
      const { maxBytes } = this.#behaviour;
      this.#unanswered.shift();
      this.#changed.fire();
      const error = new AssayError(
        status.INVALID_ARGUMENT,
        `the pair takes up to ${head.oversized} bytes; the server accepts messages of ${maxBytes}: shorten its texts`,
        { reason: "PAIR_TOO_LARGE", details: { bytes: `${head.oversized}`, max_message_bytes: `${maxBytes}` } },
      );
      yield { index: head.first, id: head.pairs[0]?.id ?? "", error };
    }
  }

  /**
   * The server closed the call without an error: right if all was answered, otherwise as good as a lost connection. Here
   * a source that failed is heard of, with everything it gave before answered.
   */
  #end(): void {
    if (this.#unanswered.length > 0 || !this.#batcher.ended) {
      throw new AssayError(
        status.UNAVAILABLE,
        `the server ended the stream with ${this.#unanswered.length} batches unanswered`,
      );
    }
    if (this.#batcher.failure !== undefined) throw this.#batcher.failure.reason;
    this.#finished = true;
  }

  /** Waits before the next connection, or throws the error if there is to be none. */
  async #backOff(error: unknown): Promise<void> {
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

/** One call: sends with back-pressure, and says when it is over. */
class Connection {
  readonly #call: StreamCall;
  readonly #signal: AbortSignal | undefined;
  readonly #waiting = new Set<() => void>();
  #closed = false;
  /** Why this side gave the call up; undefined where it did not. */
  failure: { readonly reason: unknown } | undefined;

  readonly #abort = (): void => this.fail(this.#signal?.reason);

  constructor(call: StreamCall, signal: AbortSignal | undefined) {
    this.#call = call;
    this.#signal = signal;
    // The reader throws the error; without a listener the event would end the process.
    call.on("error", () => this.#over());
    call.on("status", () => this.#over());
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (signal?.aborted === true) this.#abort();
  }

  /** Writes one message, and waits while the transport is full. Returns at once when the call is over. */
  async send(message: StreamPairsRequest): Promise<void> {
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

/** An event that may happen again and again. */
class Signal {
  #fire!: (value: "changed") => void;
  #pending!: Promise<"changed">;

  constructor() {
    this.#arm();
  }

  /** Resolves the next time that it fires. */
  next(): Promise<"changed"> {
    return this.#pending;
  }

  fire(): void {
    const fire = this.#fire;
    this.#arm();
    fire("changed");
  }

  #arm(): void {
    this.#pending = new Promise((resolve) => (this.#fire = resolve));
  }
}
