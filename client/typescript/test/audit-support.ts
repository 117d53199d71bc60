/** AuditService and Operations in memory, with faults where a test says so; audits are what the test put there. */

import {
  type sendUnaryData,
  type Server,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
} from "@grpc/grpc-js";
import { Audit, Dataset, Decision, Hypothesis } from "../src/gen/assay/v1/audit.js";
import {
  AuditServiceService,
  type CreateAuditRequest,
  type ExportAuditRequest,
  type ExportAuditResponse,
  type GetHypothesisResponse,
  type GetUploadRequest,
  GetUploadResponse,
  type ListHypothesesRequest,
  type ListHypothesesResponse,
  type RecordDecisionRequest,
  type UploadPairsRequest,
  type UploadPairsResponse,
} from "../src/gen/assay/v1/audit_service.js";
import { OperationMetadata } from "../src/gen/assay/v1/operations.js";
import { Operation, OperationsService } from "../src/gen/google/longrunning/operations.js";
import type { Pair } from "../src/gen/assay/v1/pair.js";
import type { Status } from "../src/gen/google/rpc/status.js";

type Unary<Request, Response> = (call: ServerUnaryCall<Request, Response>, reply: sendUnaryData<Response>) => void;

/** What the services keep, and how they behave. */
export class Shelf {
  /** How the next uploads end, one each, after so many batches. */
  readonly uploadEnds: { batches: number; failure: Partial<StatusObject> }[] = [];
  /** Batches by request id. */
  readonly uploads = new Map<string, Pair[][]>();
  readonly complete = new Map<string, Dataset>();
  /** Pairs that datasets lack. */
  dropped = 0;
  /** Sequences by connection. */
  readonly received: number[][] = [];
  /** What looking at the operation gives, one a look; the last one stays. */
  readonly states: Operation[] = [];
  /** How the next looks fail, one each. */
  readonly lookFailures: Partial<StatusObject>[] = [];
  readonly stopped: string[] = [];
  hypotheses: Hypothesis[] = [];
  readonly decisions: Decision[] = [];
  readonly created: CreateAuditRequest[] = [];
  file = Buffer.alloc(0);

  add(server: Server): void {
    server.addService(AuditServiceService, {
      uploadPairs: (call: ServerReadableStream<UploadPairsRequest, UploadPairsResponse>, reply: Reply) =>
        void this.#upload(call, reply),
      getUpload: ((call, reply) => reply(null, this.#stands(call.request.requestId))) satisfies Unary<
        GetUploadRequest,
        GetUploadResponse
      >,
      createAudit: ((call, reply) => {
        this.created.push(call.request);
        reply(null, operation("waiting", 0));
      }) satisfies Unary<CreateAuditRequest, Operation>,
      listHypotheses: ((call, reply) => {
        const at = Number(call.request.pageToken);
        const hypotheses = this.hypotheses.slice(at, at + 2);
        const nextPageToken = at + 2 < this.hypotheses.length ? `${at + 2}` : "";
        reply(null, { hypotheses, nextPageToken, totalSize: this.hypotheses.length });
      }) satisfies Unary<ListHypothesesRequest, ListHypothesesResponse>,
      getHypothesis: ((_, reply) => reply(null, { hypothesis: this.hypotheses[0] })) satisfies Unary<
        unknown,
        GetHypothesisResponse
      >,
      recordDecision: ((call, reply) => {
        this.decisions.push(Decision.fromPartial({ ...call.request.decision, name: "audits/one/decisions/0" }));
        reply(null, { decision: this.decisions.at(-1) });
      }) satisfies Unary<RecordDecisionRequest, { decision: Decision | undefined }>,
      exportAudit: (call: ServerWritableStream<ExportAuditRequest, ExportAuditResponse>) => {
        for (let at = 0; at < this.file.length; at += 5) call.write({ data: this.file.subarray(at, at + 5) });
        call.end();
      },
    });
    server.addService(OperationsService, {
      getOperation: ((_, reply) => {
        const failure = this.lookFailures.shift();
        if (failure) return reply(failure);
        reply(null, this.states.length > 1 ? this.states.shift()! : this.states[0]!);
      }) satisfies Unary<unknown, Operation>,
      cancelOperation: ((call, reply) => {
        this.stopped.push(call.request.name);
        reply(null, {});
      }) satisfies Unary<{ name: string }, object>,
    });
  }

  #stands(requestId: string): GetUploadResponse {
    const batches = this.uploads.get(requestId) ?? [];
    const dataset = this.complete.get(requestId);
    if (dataset !== undefined) return { nextSequence: 0, pairs: dataset.pairs, dataset };
    return { nextSequence: batches.length, pairs: batches.flat().length, dataset };
  }

  async #upload(call: ServerReadableStream<UploadPairsRequest, UploadPairsResponse>, reply: Reply): Promise<void> {
    const end = this.uploadEnds.shift();
    const sequences: number[] = [];
    let announced: number | undefined;
    this.received.push(sequences);
    let id = "";
    try {
      for await (const { payload } of call.iterator({ destroyOnReturn: false }) as AsyncIterable<UploadPairsRequest>) {
        if (payload?.$case === "options") {
          id = payload.value.requestId;
          if (!this.uploads.has(id)) this.uploads.set(id, []);
        } else if (payload?.$case === "batch") {
          if (end !== undefined && sequences.length >= end.batches) return reply(end.failure);
          const { sequence, pairs } = payload.value;
          const stored = this.uploads.get(id)!;
          sequences.push(sequence);
          if (sequence > stored.length) return reply({ code: 9, details: "a gap" });
          if (sequence === stored.length) stored.push(pairs);
        } else if (payload?.$case === "end") {
          announced = payload.value.pairs;
        }
      }
    } catch {
      return; // the client is gone
    }
    if (end !== undefined) return reply(end.failure);
    const pairs = this.uploads.get(id)!.flat();
    if (announced !== pairs.length) return reply({ code: 9, details: `${announced} pairs are announced` });
    const dataset = Dataset.fromPartial({ name: "datasets/one", pairs: pairs.length - this.dropped });
    this.complete.set(id, dataset);
    reply(null, { dataset });
  }
}

type Reply = sendUnaryData<UploadPairsResponse>;

/** An operation in a phase; over where it made an audit or failed. */
export function operation(phase: string, pairsDone: number, made?: Audit, error?: Status): Operation {
  const metadata = OperationMetadata.fromPartial({ target: "audits/one", phase, pairsDone, pairsTotal: 9 });
  const packed = { typeUrl: "type.googleapis.com/assay.v1.OperationMetadata" };
  const result: Operation["result"] =
    made !== undefined
      ? {
          $case: "response",
          value: { typeUrl: "type.googleapis.com/assay.v1.Audit", value: bytes(Audit.encode(made)) },
        }
      : error !== undefined
        ? { $case: "error", value: error }
        : undefined;
  const value = bytes(OperationMetadata.encode(metadata));
  return { name: "operations/one", metadata: { ...packed, value }, done: result !== undefined, result };
}

function bytes(writer: { finish(): Uint8Array }): Buffer {
  return Buffer.from(writer.finish());
}
