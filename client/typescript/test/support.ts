/**
 * A real gRPC server on loopback that keeps the contract's promises for a stream, and breaks them where a test says so.
 *
 * What it computes is made up (lengths of the texts), so that a test can tell from an outcome which pair it belongs to;
 * numbers that a model makes are tested end to end against the real server.
 */

import { once } from "node:events";
import type { TestContext } from "node:test";
import {
  Metadata,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { Client, type ClientOptions, type PairInput } from "../src/index.js";
import { GetModelResponse, ModelServiceService } from "../src/gen/assay/v1/model.js";
import type { Pair } from "../src/gen/assay/v1/pair.js";
import {
  type PairResult,
  PairScore,
  type ScoreOptions,
  type ScorePairsRequest,
  type ScorePairsResponse,
  ScoringServiceService,
  type StreamPairsRequest,
  type StreamPairsResponse,
} from "../src/gen/assay/v1/scoring.js";
import { Shelf } from "./audit-support.js";
import { Planner } from "./plan-support.js";
import { BadRequest, ErrorInfo, RetryInfo } from "../src/gen/google/rpc/error_details.js";
import { Status } from "../src/gen/google/rpc/status.js";

type Call = ServerDuplexStream<StreamPairsRequest, StreamPairsResponse>;

/** What a test may change about the server. */
export interface Behaviour {
  maxPairsPerMessage?: number;
  maxMessageBytes?: number;
  /** Called for each batch before it is answered; may wait, and may end the stream instead by returning an error. */
  onBatch?: (batch: {
    connection: number;
    sequence: number;
    pairs: Pair[];
  }) => MaybePromise<Partial<StatusObject> | void>;
  /** Answers instead of the right results. */
  answer?: (response: StreamPairsResponse) => StreamPairsResponse;
  /** Called for each unary call; may fail it. */
  onUnary?: (call: number, metadata: Metadata) => MaybePromise<Partial<StatusObject> | void>;
}

type MaybePromise<T> = T | Promise<T>;

/** The server, and what it saw. */
export class TestServer {
  readonly behaviour: Behaviour;
  readonly server = new Server({ "grpc.max_receive_message_length": -1 });
  address = "";
  /** Options of each connection's first message. */
  readonly streams: (ScoreOptions | undefined)[] = [];
  /** Sequence and pair ids of each batch received, over all connections. */
  readonly batches: { connection: number; sequence: number; ids: string[] }[] = [];
  readonly tokens: string[] = [];
  /** Datasets and audits. */
  readonly shelf = new Shelf();
  /** Plans. */
  readonly planner = new Planner();
  unaryCalls = 0;
  cancelled = 0;

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour;
    this.server.addService(ModelServiceService, {
      getModel: (call: ServerUnaryCall<unknown, GetModelResponse>, reply: sendUnaryData<GetModelResponse>) =>
        void this.#unary(call.metadata, reply, () => this.#model()),
    });
    this.server.addService(ScoringServiceService, {
      scorePairs: (
        call: ServerUnaryCall<ScorePairsRequest, ScorePairsResponse>,
        reply: sendUnaryData<ScorePairsResponse>,
      ) => void this.#unary(call.metadata, reply, () => ({ results: call.request.pairs.map(result) })),
      streamPairs: (call: Call) => void this.#stream(call),
    });
    this.shelf.add(this.server);
    this.planner.add(this.server);
  }

  async listen(port = 0): Promise<void> {
    const bound = await new Promise<number>((resolve, reject) =>
      this.server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, chosen) =>
        error === null ? resolve(chosen) : reject(error),
      ),
    );
    this.address = `127.0.0.1:${bound}`;
  }

  async #unary<T>(metadata: Metadata, reply: sendUnaryData<T>, answer: () => T): Promise<void> {
    this.unaryCalls += 1;
    this.tokens.push(String(metadata.get("authorization")[0] ?? ""));
    const failure = await this.behaviour.onUnary?.(this.unaryCalls, metadata);
    if (failure) reply(failure);
    else reply(null, answer());
  }

  #model(): GetModelResponse {
    const { maxPairsPerMessage = 8, maxMessageBytes = 1 << 20 } = this.behaviour;
    return GetModelResponse.fromPartial({
      model: { name: "models/default", limits: { maxPairsPerMessage, maxMessageBytes } },
    });
  }

  async #stream(call: Call): Promise<void> {
    const connection = this.streams.length;
    call.on("cancelled", () => (this.cancelled += 1));
    try {
      const failure = await this.#answerAll(call, connection);
      if (failure && failure.code !== status.OK) call.emit("error", failure);
      else call.end();
    } catch {
      // The client is gone.
    }
  }

  /** Answers batches to the client's half-close, or to the end that the test wants. */
  async #answerAll(call: Call, connection: number): Promise<Partial<StatusObject> | void> {
    // Not destroyed with the loop: the call's status still has to go out.
    const requests: AsyncIterable<StreamPairsRequest> = call.iterator({ destroyOnReturn: false });
    for await (const { payload } of requests) {
      if (payload?.$case === "options") this.streams.push(payload.value.score);
      if (payload?.$case !== "batch") continue;
      const { sequence, pairs } = payload.value;
      this.batches.push({ connection, sequence, ids: pairs.map(({ id }) => id) });
      const failure = await this.behaviour.onBatch?.({ connection, sequence, pairs });
      if (failure) return failure;
      const response = { sequence, results: pairs.map(result) };
      if (!call.write(this.behaviour.answer?.(response) ?? response)) await once(call, "drain");
    }
  }
}

/** A server and a client of it, both closed when the test ends. */
export async function serve(
  test: TestContext,
  behaviour: Behaviour = {},
  options: ClientOptions = {},
): Promise<{ server: TestServer; client: Client }> {
  const server = new TestServer(behaviour);
  await server.listen();
  const client = new Client({ address: server.address, ...options });
  test.after(() => {
    client.close();
    server.server.forceShutdown();
  });
  return { server, client };
}

/** `count` pairs whose ids are their indices. */
export function somePairs(count: number): PairInput[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `${i}`,
    prompt: [{ role: "user", content: `question ${i}` }],
    chosen: "a".repeat((i % 7) + 1),
    rejected: "b",
  }));
}

/** All of an async iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A status with rich details, as the server sends one. */
export function richStatus(
  code: status,
  message: string,
  parts: { reason?: string; retrySeconds?: number; field?: string },
): Partial<StatusObject> {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode(richMessage(code, message, parts)).finish()));
  return { code, details: message, metadata };
}

/** The rich status itself, as an item or an operation carries it. */
export function richMessage(
  code: status,
  message: string,
  { reason, retrySeconds, field }: { reason?: string; retrySeconds?: number; field?: string },
): Status {
  const details = [];
  if (reason !== undefined) {
    const info = ErrorInfo.fromPartial({ reason, domain: "assay", metadata: { limit: "8", got: "9" } });
    details.push({
      typeUrl: "type.googleapis.com/google.rpc.ErrorInfo",
      value: Buffer.from(ErrorInfo.encode(info).finish()),
    });
  }
  if (retrySeconds !== undefined) {
    const seconds = Math.floor(retrySeconds);
    const nanos = Math.round((retrySeconds - seconds) * 1e9);
    const info = RetryInfo.fromPartial({ retryDelay: { seconds, nanos } });
    details.push({
      typeUrl: "type.googleapis.com/google.rpc.RetryInfo",
      value: Buffer.from(RetryInfo.encode(info).finish()),
    });
  }
  if (field !== undefined) {
    const bad = BadRequest.fromPartial({ fieldViolations: [{ field, description: "is wrong" }] });
    details.push({
      typeUrl: "type.googleapis.com/google.rpc.BadRequest",
      value: Buffer.from(BadRequest.encode(bad).finish()),
    });
  }
  return Status.fromPartial({ code, message, details });
}

/** What the server answers for a pair: an error where the chosen response is empty, otherwise its lengths. */
function result(pair: Pair): PairResult {
  const { id, chosen, rejected } = pair;
  if (chosen === "") {
    const value = richMessage(status.INVALID_ARGUMENT, "the chosen response is empty", {
      reason: "EMPTY_RESPONSE",
      field: "chosen",
    });
    return { id, outcome: { $case: "error", value } };
  }
  const value = PairScore.fromPartial({
    tokens: { chosen: chosen.length, rejected: rejected.length },
    byMax: { features: [7], chosen: [Math.fround(0.1)], rejected: [Math.fround(1 / 3)] },
  });
  return { id, outcome: { $case: "score", value } };
}
