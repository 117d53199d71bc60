/**
 * Turns a source of pairs into numbered batches, no faster than they are taken.
 *
 * Invariants: a pair is read from the source once, whatever happens to the connection that it was read for; at most one
 * read of the source is under way; a batch never exceeds the bounds in pairs or bytes, except that a pair which no
 * message can hold becomes a batch of its own with `oversized` set, which is never sent.
 */

import type { Pair } from "./gen/assay/v1/pair.js";
import { type PairInput, toPair, wireBytes } from "./items.js";

/** Bounds of one batch. */
export interface BatchBounds {
  /** Pairs in one message. */
  readonly pairs: number;
  /** Bytes that a message is filled to. */
  readonly targetBytes: number;
  /** Bytes that the server accepts in one message. */
  readonly maxBytes: number;
  /** Milliseconds that a begun batch waits for the source to fill it. */
  readonly lingerMs: number;
  /** Sequence of the first batch. Default: 0. */
  readonly firstSequence?: number;
  /** Pairs of the source that are passed over. Default: 0. */
  readonly skip?: number;
}

/** Pairs that travel in one message. */
export interface Batch {
  readonly sequence: number;
  /** Index in the source of the first pair. */
  readonly first: number;
  readonly pairs: readonly Pair[];
  /** Bytes of the pairs, at most. */
  readonly bytes: number;
  /** Bytes of the one pair that no message can hold; undefined in a batch that can be sent. */
  readonly oversized: number | undefined;
}

interface Sized {
  readonly pair: Pair;
  readonly bytes: number;
}

const LINGERED = Symbol("lingered");

/** Reads a source into batches. */
export class Batcher {
  readonly #source: Iterator<PairInput> | AsyncIterator<PairInput>;
  readonly #bounds: BatchBounds;
  #reading: Promise<Sized | undefined> | undefined;
  #batch: Promise<Batch | undefined> | undefined;
  #sequence: number;
  #index: number;
  #toSkip: number;
  #ended = false;
  #failure: { readonly reason: unknown } | undefined;

  constructor(source: Iterable<PairInput> | AsyncIterable<PairInput>, bounds: BatchBounds) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#bounds = bounds;
    this.#sequence = bounds.firstSequence ?? 0;
    this.#index = this.#toSkip = bounds.skip ?? 0;
  }

  /** Pairs that were to be passed over and that the source did not have; known once it has ended. */
  get missing(): number {
    return this.#toSkip;
  }

  /** Pairs of the source that are in batches, and those that were passed over; all of them once it has ended. */
  get pairs(): number {
    return this.#index;
  }

  /** The next batch, or undefined when the source ended or failed: the same promise until `take`. Never rejects. */
  peek(): Promise<Batch | undefined> {
    return (this.#batch ??= this.#gather());
  }

  /** Whether `peek` has come to the source's end, or to its failure. */
  get ended(): boolean {
    return this.#ended;
  }

  /** What the source threw, once all that it gave before is in batches. */
  get failure(): { readonly reason: unknown } | undefined {
    return this.#ended ? this.#failure : undefined;
  }

  /** Moves past the batch that `peek` resolved to. */
  take(): void {
    this.#batch = undefined;
  }

  /** Tells the source that nothing more will be read. What it is still producing is dropped when it comes. */
  close(): void {
    void (async () => this.#source.return?.())().catch(() => undefined);
  }

  async #gather(): Promise<Batch | undefined> {
    const head = await this.#read();
    if (head === undefined) {
      this.#ended = true;
      return undefined;
    }
    this.#reading = undefined;
    if (head.bytes > this.#bounds.maxBytes) return this.#number([{ ...head.pair, ...NO_TEXT }], 0, head.bytes);
    const pairs = [head.pair];
    let bytes = head.bytes;
    const linger = timer(this.#bounds.lingerMs);
    while (pairs.length < this.#bounds.pairs) {
      const next = await Promise.race([this.#read(), linger.elapsed]);
      if (next === LINGERED || next === undefined || bytes + next.bytes > this.#bounds.targetBytes) break;
      this.#reading = undefined;
      pairs.push(next.pair);
      bytes += next.bytes;
    }
    linger.cancel();
    return this.#number(pairs, bytes, undefined);
  }

  #number(pairs: readonly Pair[], bytes: number, oversized: number | undefined): Batch {
    const batch = { sequence: this.#sequence++, first: this.#index, pairs, bytes, oversized };
    this.#index += pairs.length;
    return batch;
  }

  /** The source's next pair, or undefined when it ended or failed: the same promise until it is used. Never rejects. */
  #read(): Promise<Sized | undefined> {
    return (this.#reading ??= this.#advance());
  }

  async #advance(): Promise<Sized | undefined> {
    try {
      for (; this.#toSkip > 0; this.#toSkip--) if ((await this.#source.next()).done === true) return undefined;
      const { done, value } = await this.#source.next();
      if (done === true) return undefined;
      const pair = toPair(value as PairInput);
      return { pair, bytes: wireBytes(pair) };
    } catch (reason) {
      this.#failure = { reason };
      return undefined;
    }
  }
}

const NO_TEXT = { prompt: undefined, chosen: "", rejected: "", metadata: {} };

function timer(milliseconds: number): { elapsed: Promise<typeof LINGERED>; cancel: () => void } {
  let handle: NodeJS.Timeout | undefined;
  const elapsed = new Promise<typeof LINGERED>((resolve) => {
    handle = setTimeout(() => resolve(LINGERED), milliseconds);
  });
  return { elapsed, cancel: () => clearTimeout(handle) };
}
