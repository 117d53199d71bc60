/**
 * One upload of pairs over as many connections as it takes.
 *
 * Invariants:
 *
 * - A batch is kept until the server says that it is stored (GetUpload); a new connection carries exactly what is not.
 * - The source is read no faster than the connection takes it. The server is asked what it has each time that
 *   `maxBytesInFlight` were sent.
 * - The end of the source is told to the server with the number of pairs, and only that completes the dataset.
 * - However the upload ends, the call is cancelled or over, and the source is told. What the server has stays there, and
 *   another upload under the same request id goes on after it.
 */

import { type ClientWritableStream, type ServiceError, status } from "@grpc/grpc-js";
import { type Batch, Batcher, type BatchBounds } from "./batches.js";
import { Connection } from "./connection.js";
import { AssayError } from "./errors.js";
import type { Dataset } from "./gen/assay/v1/audit.js";
import type { GetUploadResponse, UploadPairsRequest, UploadPairsResponse } from "./gen/assay/v1/audit_service.js";
import type { PairInput } from "./items.js";
import { Patience, type RetryBehaviour } from "./patience.js";

type Source = Iterable<PairInput> | AsyncIterable<PairInput>;

/** Opens the call; its answer or error goes to the callback. */
export type OpenUpload = (
  callback: (error: ServiceError | null, response: UploadPairsResponse) => void,
) => ClientWritableStream<UploadPairsRequest>;

/** How an upload behaves; `Client.uploadPairs` documents the defaults. */
export interface UploadBehaviour extends RetryBehaviour {
  readonly requestId: string;
  readonly displayName: string;
  readonly bounds: BatchBounds;
  readonly maxBytesInFlight: number;
  /** Called with the number of pairs that are on their way, those of earlier runs included. */
  readonly onProgress: ((pairs: number) => void) | undefined;
}

export class PairUpload {
  readonly #open: OpenUpload;
  readonly #where: () => Promise<GetUploadResponse>;
  readonly #behaviour: UploadBehaviour;
  readonly #patience: Patience;
  #kept: Batch[] = [];
  #stored = 0;

  constructor(open: OpenUpload, where: () => Promise<GetUploadResponse>, behaviour: UploadBehaviour) {
    this.#open = open;
    this.#where = where;
    this.#behaviour = behaviour;
    this.#patience = new Patience(behaviour);
  }

  /** Sends what the server does not have yet. */
  async run(pairs: Source): Promise<Dataset> {
    const { signal, bounds } = this.#behaviour;
    const { dataset, nextSequence, pairs: skip } = await this.#stands();
    if (dataset !== undefined) return completeAlready(dataset, pairs);
    const batcher = new Batcher(pairs, { ...bounds, firstSequence: nextSequence, skip });
    try {
      for (;;) {
        try {
          return await this.#connection(batcher);
        } catch (error) {
          signal?.throwIfAborted();
          if (batcher.failure !== undefined && error === batcher.failure.reason) throw error;
          await this.#patience.wait(error);
        }
        this.#drop(await this.#stands());
      }
    } finally {
      batcher.close();
    }
  }

  /** Sends all there is over one connection. */
  async #connection(batcher: Batcher): Promise<Dataset> {
    const { requestId, displayName, signal, maxBytesInFlight } = this.#behaviour;
    let call!: ClientWritableStream<UploadPairsRequest>;
    const answer = new Promise<UploadPairsResponse>((resolve, reject) => {
      call = this.#open((error, response) => (error === null ? resolve(response) : reject(AssayError.fromCall(error))));
    });
    answer.catch(() => undefined); // heard of below, or overtaken by this side's own failure
    const connection = new Connection<UploadPairsRequest>(call, signal);
    try {
      await connection.send({ payload: { $case: "options", value: { requestId, displayName } } });
      for (const batch of this.#kept) await this.#send(connection, batch);
      for (let sent = 0; ;) {
        const waiting = batcher.peek();
        if (await connection.closedBefore(waiting)) break;
        const batch = await waiting;
        if (batch === undefined) {
          this.#checkSource(batcher);
          await connection.send({ payload: { $case: "end", value: { pairs: batcher.pairs } } });
          connection.end();
          break;
        }
        batcher.take();
        this.#refuseOversized(batch);
        this.#kept.push(batch);
        await this.#send(connection, batch);
        sent += batch.bytes;
        if (sent >= maxBytesInFlight) {
          this.#drop(await this.#stands());
          sent = 0;
        }
      }
      const { dataset } = await answer;
      if (dataset === undefined)
        throw new AssayError(status.UNKNOWN, "the server's answer holds no dataset", { reason: "BAD_ANSWER" });
      checkPairs(dataset, batcher.pairs);
      return dataset;
    } catch (error) {
      throw connection.failure === undefined ? error : connection.failure.reason;
    } finally {
      connection.close();
    }
  }

  async #send(connection: Connection<UploadPairsRequest>, { sequence, pairs, first }: Batch): Promise<void> {
    await connection.send({ payload: { $case: "batch", value: { sequence, pairs: [...pairs] } } });
    this.#behaviour.onProgress?.(first + pairs.length);
  }

  /** Where the upload stands; asked until the server says so. */
  async #stands(): Promise<GetUploadResponse> {
    for (;;) {
      try {
        const state = await this.#where();
        if (state.nextSequence > this.#stored) this.#patience.progressed();
        this.#stored = Math.max(this.#stored, state.nextSequence);
        return state;
      } catch (error) {
        await this.#patience.wait(error);
      }
    }
  }

  /** Forgets what is stored: everything where somebody completed the upload, and the end tells whether of the same pairs. */
  #drop({ nextSequence, dataset }: GetUploadResponse): void {
    if (dataset !== undefined) {
      this.#kept = [];
      return;
    }
    const first = this.#kept[0]?.sequence;
    if (nextSequence < this.#stored || (first !== undefined && nextSequence < first)) {
      throw new AssayError(
        status.DATA_LOSS,
        `the server had stored ${this.#stored} batches of this upload and now has ${nextSequence}: upload it again`,
        { reason: "UPLOAD_LOST", details: { had: `${this.#stored}`, has: `${nextSequence}` } },
      );
    }
    this.#kept = this.#kept.filter(({ sequence }) => sequence >= nextSequence);
  }

  #checkSource(batcher: Batcher): void {
    if (batcher.failure !== undefined) throw batcher.failure.reason;
    if (batcher.missing === 0) return;
    throw new AssayError(
      status.INVALID_ARGUMENT,
      `the server has ${batcher.missing} pairs more under this request id than there are here: give another requestId`,
      { reason: "OTHER_UPLOAD", details: { missing: `${batcher.missing}` } },
    );
  }

  #refuseOversized({ oversized, first }: Batch): void {
    if (oversized === undefined) return;
    const most = this.#behaviour.bounds.maxBytes;
    throw new AssayError(
      status.INVALID_ARGUMENT,
      `pair ${first + 1} takes up to ${oversized} bytes, and a message holds ${most}: shorten it, or leave it out`,
      { reason: "MESSAGE_TOO_LARGE", details: { bytes: `${oversized}`, max_message_bytes: `${most}` } },
    );
  }
}

/** The dataset of an upload that is complete, where the pairs cannot be counted or are as many. */
function completeAlready(dataset: Dataset, pairs: Source): Dataset {
  if (!Array.isArray(pairs) || pairs.length === dataset.pairs) return dataset;
  throw new AssayError(
    status.INVALID_ARGUMENT,
    `there are ${pairs.length} pairs here, and the server has ${dataset.pairs} under this request id already: give another requestId`,
    { reason: "OTHER_UPLOAD", details: { pairs: `${pairs.length}`, stored: `${dataset.pairs}` } },
  );
}

function checkPairs({ name, pairs }: Dataset, sent: number): void {
  if (pairs === sent) return;
  throw new AssayError(
    status.DATA_LOSS,
    `${sent} pairs were sent, and the server made a dataset of ${pairs} (${name}): do not use it, and upload the pairs ` +
      "again under another requestId",
    { reason: "PAIRS_DIFFER", details: { sent: `${sent}`, stored: `${pairs}` } },
  );
}
