/** How pairs are streamed: the settings that every stream has, and the part of the client that runs one. */

import { AuditMethods } from "./audits.js";
import { Batcher } from "./batches.js";
import type { PairInput } from "./items.js";
import { MESSAGE_OVERHEAD_BYTES, positive, TARGET_MESSAGE_BYTES } from "./session.js";
import { type Dialect, PairStream, type StreamCall } from "./stream.js";

/** How `score` and `streamOffsets` stream. */
export interface StreamOptions {
  /** Pairs in one message. Default: 32, or the server's limit where that is smaller. */
  readonly pairsPerMessage?: number;
  /** Pairs sent and not yet answered. Default: 16 messages of them. */
  readonly maxPairsInFlight?: number;
  /** Milliseconds that a begun message waits for a slow source to fill it. Default: 20. */
  readonly lingerMs?: number;
  /** Connections in a row that may break without one answer between them. Default: 10. */
  readonly attempts?: number;
  /** Longest wait before the first reconnection, in milliseconds; doubled for each further one. Default: 200. */
  readonly initialBackoffMs?: number;
  /** Longest wait before any reconnection, in milliseconds. Default: 5000. */
  readonly maxBackoffMs?: number;
  /** Ends the stream; `score` then throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** The part of the client that streams pairs. */
export class StreamMethods extends AuditMethods {
  /** One outcome for each pair, in order, over as many connections as it takes. */
  protected async *streamed<Request, Result, Outcome>(
    open: () => StreamCall<Request, Result>,
    pairs: Iterable<PairInput> | AsyncIterable<PairInput>,
    stream: StreamOptions,
    dialect: Dialect<Request, Result, Outcome>,
  ): AsyncGenerator<Outcome, void, undefined> {
    const { signal } = stream;
    const limits = await this.knownLimits(signal);
    const pairsPerMessage = Math.min(stream.pairsPerMessage ?? 32, limits.maxPairsPerMessage);
    const batcher = new Batcher(pairs, {
      pairs: positive(pairsPerMessage, "pairsPerMessage"),
      targetBytes: Math.min(TARGET_MESSAGE_BYTES, limits.maxMessageBytes),
      maxBytes: limits.maxMessageBytes - MESSAGE_OVERHEAD_BYTES,
      lingerMs: stream.lingerMs ?? 20,
    });
    yield* new PairStream(open, dialect, batcher, {
      maxPairsInFlight: positive(stream.maxPairsInFlight ?? 16 * pairsPerMessage, "maxPairsInFlight"),
      maxBytes: limits.maxMessageBytes,
      attempts: positive(stream.attempts ?? 10, "attempts"),
      initialBackoffMs: stream.initialBackoffMs ?? 200,
      maxBackoffMs: stream.maxBackoffMs ?? 5000,
      signal,
    }).outcomes();
  }
}
