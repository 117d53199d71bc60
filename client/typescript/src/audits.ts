/**
 * Datasets, audits, hypotheses and decisions.
 *
 *     const dataset = await client.uploadPairs(pairs, { requestId: "my-pairs" });
 *     const run = await client.audit(dataset.name, { metadataKeys: ["topic"] });
 *     const audit = await run.wait({ onProgress: ({ phase, pairsDone }) => console.log(phase, pairsDone) });
 *     for await (const hypothesis of client.hypotheses(audit.name, "finding = true")) console.log(hypothesis.concept?.label);
 */

import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { AssayError } from "./errors.js";
import { Audit, AuditOptions, type Dataset, Decision, type Decision_Mode, Hypothesis } from "./gen/assay/v1/audit.js";
import {
  AuditServiceClient,
  ExportAuditRequest_Format,
  type ExportAuditResponse,
  type TestHypothesisRequest,
} from "./gen/assay/v1/audit_service.js";
import type { DeepPartial } from "./gen/assay/v1/scoring.js";
import { OperationsClient, type Operation as OperationMessage } from "./gen/google/longrunning/operations.js";
import type { PairInput } from "./items.js";
import { Operation, type ReadResult } from "./operations.js";
import {
  type CallOptions,
  type ClientOptions,
  MESSAGE_OVERHEAD_BYTES,
  positive,
  present,
  Session,
  TARGET_MESSAGE_BYTES,
} from "./session.js";
import { PairUpload } from "./upload.js";

/** How `uploadPairs` uploads. */
export interface UploadSettings {
  /**
   * The caller's name for this upload: letters, digits, "-" and "_", at most 64. The same id means the same pairs, and goes
   * on where an earlier upload stopped. Default: a fresh one.
   */
  readonly requestId?: string;
  /** For people. */
  readonly displayName?: string;
  /** Called with the number of pairs that are on their way, those of earlier runs included. */
  readonly onProgress?: (pairs: number) => void;
  /** Pairs in one message. Default: 64, or the server's limit where that is smaller. */
  readonly pairsPerMessage?: number;
  /** Bytes that are sent before the server is asked what it has stored. Default: 8 MiB. */
  readonly maxBytesInFlight?: number;
  /** Connections in a row that may break without a batch stored between them. Default: 10. */
  readonly attempts?: number;
  /** Longest wait before the first reconnection, in milliseconds; doubled for each further one. Default: 200. */
  readonly initialBackoffMs?: number;
  /** Longest wait before any reconnection, in milliseconds. Default: 5000. */
  readonly maxBackoffMs?: number;
  /** Ends the upload, with the signal's reason; what the server has stays there. */
  readonly signal?: AbortSignal;
}

/** Knobs of an audit; every field has the method's default, told in the contract. */
export type AuditSettings = DeepPartial<AuditOptions>;

/** Where a stated hypothesis should hold. */
export type StatedCondition = NonNullable<TestHypothesisRequest["condition"]>;

/** What a decision says beside its mode. */
export interface DecisionDetails {
  /** How strongly, from 0. Default: 1. */
  readonly strength?: number;
  /** Why, for people. */
  readonly note?: string;
  /** Who, for people. */
  readonly author?: string;
}

/** Idempotency of what starts work. */
export interface StartOptions extends CallOptions {
  /** The same id gives the same operation. Default: a fresh one. */
  readonly requestId?: string;
  /** For people. */
  readonly displayName?: string;
}

const PAGE_SIZE = 500;

/** The part of the client that audits. */
export class AuditMethods extends Session {
  readonly #audits: AuditServiceClient;
  readonly #operations: OperationsClient;

  constructor(options: ClientOptions = {}) {
    super(options);
    this.#audits = new AuditServiceClient(...this.stubArguments);
    this.#operations = new OperationsClient(...this.stubArguments);
  }

  /**
   * Stores pairs on the server; equal pairs in equal order are one dataset, however often they come. The source is read no
   * faster than the server takes it. A broken connection is opened again and continued after what the server has.
   */
  async uploadPairs(
    pairs: Iterable<PairInput> | AsyncIterable<PairInput>,
    settings: UploadSettings = {},
  ): Promise<Dataset> {
    const { signal, requestId = freshId() } = settings;
    const call = signal === undefined ? {} : { signal };
    const limits = await this.knownLimits(signal);
    const pairsPerMessage = Math.min(settings.pairsPerMessage ?? 64, limits.maxPairsPerMessage);
    const where = this.#audits.getUpload.bind(this.#audits);
    return new PairUpload(
      (callback) => this.#audits.uploadPairs(this.metadata, callback),
      () => this.unary(where, { requestId }, call),
      {
        requestId,
        displayName: settings.displayName ?? "",
        bounds: {
          pairs: positive(pairsPerMessage, "pairsPerMessage"),
          targetBytes: Math.min(TARGET_MESSAGE_BYTES, limits.maxMessageBytes),
          maxBytes: limits.maxMessageBytes - MESSAGE_OVERHEAD_BYTES,
          lingerMs: 1000,
        },
        maxBytesInFlight: positive(settings.maxBytesInFlight ?? 8 << 20, "maxBytesInFlight"),
        attempts: positive(settings.attempts ?? 10, "attempts"),
        initialBackoffMs: settings.initialBackoffMs ?? 200,
        maxBackoffMs: settings.maxBackoffMs ?? 5000,
        onProgress: settings.onProgress,
        signal,
      },
    ).run(pairs);
  }

  /** All datasets, newest first; pages are fetched as needed. */
  async *datasets(call: CallOptions = {}): AsyncGenerator<Dataset, void, undefined> {
    const method = this.#audits.listDatasets.bind(this.#audits);
    yield* pages(
      (pageToken) => this.unary(method, { pageSize: PAGE_SIZE, pageToken }, call),
      ({ datasets }) => datasets,
    );
  }

  /** Deletes a dataset with its features; refused (IN_USE) while an audit of it runs. */
  async deleteDataset(name: string, call: CallOptions = {}): Promise<void> {
    await this.unary(this.#audits.deleteDataset.bind(this.#audits), { name }, call);
  }

  /** Starts an audit of a dataset, and returns at once; `wait` of what it returns waits for it. */
  async audit(dataset: string, options: AuditSettings = {}, start: StartOptions = {}): Promise<Operation<Audit>> {
    const request = {
      dataset,
      options: AuditOptions.fromPartial(options),
      displayName: start.displayName ?? "",
      requestId: start.requestId ?? freshId(),
    };
    const first = await this.unary(this.#audits.createAudit.bind(this.#audits), request, start);
    return this.begun(first, readAudit);
  }

  /** An audit that was started before, by its operation's name. */
  async resumeAudit(operation: string, call: CallOptions = {}): Promise<Operation<Audit>> {
    return this.begun(await this.#look(operation, call), readAudit);
  }

  /**
   * Starts the test of one stated hypothesis, corrected for nothing else. A concept is "concepts/ID", "feature/17" or
   * "cluster/3".
   */
  async test(
    dataset: string,
    concept: string,
    condition?: StatedCondition,
    options: AuditSettings = {},
    start: StartOptions = {},
  ): Promise<Operation<Hypothesis>> {
    const request = {
      dataset,
      concept,
      condition,
      options: AuditOptions.fromPartial(options),
      requestId: start.requestId ?? freshId(),
    };
    const first = await this.unary(this.#audits.testHypothesis.bind(this.#audits), request, start);
    return this.begun(first, readHypothesis);
  }

  /** All audits, or those of a dataset, newest first; pages are fetched as needed. */
  async *audits(dataset = "", call: CallOptions = {}): AsyncGenerator<Audit, void, undefined> {
    const method = this.#audits.listAudits.bind(this.#audits);
    yield* pages(
      (pageToken) => this.unary(method, { pageSize: PAGE_SIZE, pageToken, dataset }, call),
      ({ audits }) => audits,
    );
  }

  /** One audit. */
  async getAudit(name: string, call: CallOptions = {}): Promise<Audit> {
    const { audit } = await this.unary(this.#audits.getAudit.bind(this.#audits), { name }, call);
    return present(audit, "audit");
  }

  /** Deletes an audit with its hypotheses and decisions; one that runs is cancelled. */
  async deleteAudit(name: string, call: CallOptions = {}): Promise<void> {
    await this.unary(this.#audits.deleteAudit.bind(this.#audits), { name }, call);
  }

  /**
   * An audit's hypotheses without their evidence; pages are fetched as needed. The contract (ListHypotheses) says what
   * filters and orders may be, for example `view = "global" AND q <= 0.05`, and "rank".
   */
  async *hypotheses(
    audit: string,
    filter = "",
    orderBy = "",
    call: CallOptions = {},
  ): AsyncGenerator<Hypothesis, void, undefined> {
    const method = this.#audits.listHypotheses.bind(this.#audits);
    yield* pages(
      (pageToken) => this.unary(method, { parent: audit, pageSize: PAGE_SIZE, pageToken, filter, orderBy }, call),
      ({ hypotheses }) => hypotheses,
    );
  }

  /** One hypothesis with the pairs for and against it, and with `highlights` where its concept fires in them. */
  async hypothesis(name: string, highlights = false, call: CallOptions = {}): Promise<Hypothesis> {
    const method = this.#audits.getHypothesis.bind(this.#audits);
    const { hypothesis } = await this.unary(method, { name, highlights }, call);
    return present(hypothesis, "hypothesis");
  }

  /** Records what is wanted of a hypothesis's concept; the last decision counts, earlier ones are kept. */
  async decide(
    hypothesis: string,
    mode: Decision_Mode,
    details: DecisionDetails = {},
    start: StartOptions = {},
  ): Promise<Decision> {
    const request = {
      decision: Decision.fromPartial({ hypothesis, mode, ...details }),
      requestId: start.requestId ?? freshId(),
    };
    const { decision } = await this.unary(this.#audits.recordDecision.bind(this.#audits), request, start);
    return present(decision, "decision");
  }

  /** Decisions of an audit, or of all, oldest first; pages are fetched as needed. */
  async *decisions(audit = "audits/-", call: CallOptions = {}): AsyncGenerator<Decision, void, undefined> {
    const method = this.#audits.listDecisions.bind(this.#audits);
    yield* pages(
      (pageToken) => this.unary(method, { parent: audit, pageSize: PAGE_SIZE, pageToken }, call),
      ({ decisions }) => decisions,
    );
  }

  /** An audit as a file, chunk by chunk: the report as one HTML page, or all hypotheses as Parquet. */
  async *exportAudit(
    name: string,
    format: "html" | "parquet" = "html",
    { signal }: CallOptions = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    signal?.throwIfAborted();
    const request = {
      name,
      format: format === "html" ? ExportAuditRequest_Format.HTML : ExportAuditRequest_Format.PARQUET,
    };
    const call = this.#audits.exportAudit(request, this.metadata);
    const abort = (): void => call.cancel();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      for await (const { data } of call as AsyncIterable<ExportAuditResponse>) yield data;
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : AssayError.fromCall(error);
    } finally {
      signal?.removeEventListener("abort", abort);
      call.cancel();
    }
  }

  /** The handle of work that was just started, or found. */
  protected begun<Result>(first: OperationMessage, read: ReadResult<Result>): Operation<Result> {
    const look = (name: string, signal: AbortSignal | undefined): Promise<OperationMessage> =>
      this.#look(name, signal === undefined ? {} : { signal });
    const stop = async (name: string): Promise<void> => {
      await this.unary(this.#operations.cancelOperation.bind(this.#operations), { name }, {});
    };
    return new Operation(first, { look, stop }, read);
  }

  #look(name: string, call: CallOptions): Promise<OperationMessage> {
    return this.unary(this.#operations.getOperation.bind(this.#operations), { name }, call);
  }
}

const readAudit = reader("assay.v1.Audit", (bytes) => Audit.decode(bytes));
const readHypothesis = reader("assay.v1.Hypothesis", (bytes) => Hypothesis.decode(bytes));

/** Reads what an operation made, of one kind. */
export function reader<Result>(kind: string, decode: (bytes: Uint8Array) => Result): ReadResult<Result> {
  return ({ typeUrl, value }) => {
    const made = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
    if (made === kind) return decode(value);
    throw new AssayError(status.UNKNOWN, `the operation made a ${made}, not a ${kind}`, { reason: "BAD_ANSWER" });
  };
}

async function* pages<Page extends { nextPageToken: string }, Item>(
  fetch: (pageToken: string) => Promise<Page>,
  items: (page: Page) => Item[],
): AsyncGenerator<Item, void, undefined> {
  let pageToken = "";
  do {
    const page = await fetch(pageToken);
    yield* items(page);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** A request id that nobody else has. */
export function freshId(): string {
  return randomUUID();
}
