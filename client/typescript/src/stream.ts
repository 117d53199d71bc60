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

import { type ClientDuplexStream, status } from "@grpc/grpc-js";
import type { Batch, Batcher } from "./batches.js";
import { Connection } from "./connection.js";
import { AssayError } from "./errors.js";
import type { PairBatch } from "./gen/assay/v1/scoring.js";
import { Patience, type RetryBehaviour } from "./patience.js";

/** What a stream of pairs says: StreamPairs and StreamOffsets differ in this alone. */
export interface Dialect<Request, Result, Outcome> {
  /** The first message, which carries the options. */
  readonly head: Request;
  /** The message of a batch. */
  readonly batch: (batch: PairBatch) => Request;
  /** A pair's outcome from the wire. */
  readonly outcome: (result: Result, index: number) => Outcome;
  /** The outcome of a pair that never left. */
  readonly refusal: (index: number, id: string, error: AssayError) => Outcome;
}

/** An answer to one batch. */
export interface Answer<Result> {
  readonly sequence: number;
  readonly results: Result[];
}

export type StreamCall<Request, Result> = ClientDuplexStream<Request, Answer<Result>>;

/** How a stream behaves; `StreamOptions` documents the defaults. */
export interface StreamBehaviour extends RetryBehaviour {
  readonly maxPairsInFlight: number;
  readonly maxBytes: number;
}

/** What one turn of reading brought: an answer, the end of the call, or a batch to be answered here. */
type Turn<Result> = IteratorResult<Answer<Result>, unknown> | "changed";

export class PairStream<Request, Result, Outcome> {
  readonly #open: () => StreamCall<Request, Result>;
  readonly #dialect: Dialect<Request, Result, Outcome>;
  readonly #batcher: Batcher;
  readonly #behaviour: StreamBehaviour;
  readonly #changed = new Signal();
  #unanswered: Batch[] = [];
  #finished = false;
  readonly #patience: Patience;

  constructor(
    open: () => StreamCall<Request, Result>,
    dialect: Dialect<Request, Result, Outcome>,
    batcher: Batcher,
    behaviour: StreamBehaviour,
  ) {
    this.#open = open;
    this.#dialect = dialect;
    this.#batcher = batcher;
    this.#behaviour = behaviour;
    this.#patience = new Patience(behaviour);
  }

  /** The outcomes. To be iterated once. */
  async *outcomes(): AsyncGenerator<Outcome, void, undefined> {
    const { signal } = this.#behaviour;
    try {
      while (!this.#finished) {
        signal?.throwIfAborted();
        try {
          yield* this.#connection();
        } catch (error) {
          signal?.throwIfAborted();
          if (this.#batcher.failure !== undefined && error === this.#batcher.failure.reason) throw error;
          await this.#patience.wait(error);
        }
      }
    } finally {
      this.#batcher.close();
    }
  }

  /** Reads one connection to its end; throws what ended it early. */
  async *#connection(): AsyncGenerator<Outcome, void, undefined> {
    const call = this.#open();
    const connection = new Connection<Request>(call, this.#behaviour.signal);
    const writing = this.#write(connection).catch((error: unknown) => connection.fail(error));
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<Answer<Result>, unknown>;
    let answer: Promise<IteratorResult<Answer<Result>, unknown>> | undefined;
    try {
      for (;;) {
        const changed = this.#changed.next();
        yield* this.#refusals();
        answer ??= answers.next();
        const turn: Turn<Result> = await Promise.race([answer, changed]);
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
  async #write(connection: Connection<Request>): Promise<void> {
    await connection.send(this.#dialect.head);
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

  async #send(connection: Connection<Request>, { sequence, pairs, oversized }: Batch): Promise<void> {
    if (oversized !== undefined) return;
    await connection.send(this.#dialect.batch({ sequence, pairs: [...pairs] }));
  }

  #full(): boolean {
    const pairs = this.#unanswered.reduce((sum, batch) => sum + batch.pairs.length, 0);
    return pairs >= this.#behaviour.maxPairsInFlight;
  }

  /** Hands over the answer to the batch whose turn it is. */
  *#accept({ sequence, results }: Answer<Result>): Generator<Outcome, void, undefined> {
    const batch = this.#unanswered[0];
    if (batch === undefined || sequence !== batch.sequence || results.length !== batch.pairs.length) {
      const wanted = batch === undefined ? "nothing" : `batch ${batch.sequence} of ${batch.pairs.length} pairs`;
      throw new AssayError(
        status.INTERNAL,
        `the server answered batch ${sequence} with ${results.length} results where ${wanted} was due`,
        { reason: "BAD_ANSWER" },
      );
    }
    this.#patience.progressed();
    this.#unanswered.shift();
    this.#changed.fire();
    for (const [offset, result] of results.entries()) yield this.#dialect.outcome(result, batch.first + offset);
  }

  /** Answers the pairs that no message can hold, as far as it is their turn. */
  *#refusals(): Generator<Outcome, void, undefined> {
    for (let head = this.#unanswered[0]; head?.oversized !== undefined; head = this.#unanswered[0]) {
      const { maxBytes } = this.#behaviour;
      this.#unanswered.shift();
      this.#changed.fire();
      const error = new AssayError(
        status.INVALID_ARGUMENT,
        `the pair takes up to ${head.oversized} bytes; the server accepts messages of ${maxBytes}: shorten its texts`,
        { reason: "PAIR_TOO_LARGE", details: { bytes: `${head.oversized}`, max_message_bytes: `${maxBytes}` } },
      );
      yield this.#dialect.refusal(head.first, head.pairs[0]?.id ?? "", error);
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
