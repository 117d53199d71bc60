/**
 * The client: one channel, one method for each thing that the service answers.
 *
 * Unary calls have a deadline and are retried by gRPC's own service config where the server was unreachable or asked
 * for patience. `score` streams: see stream.ts for what it holds to.
 */

import {
  Channel,
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  Metadata,
  type ServiceError,
  type CallOptions as GrpcCallOptions,
  type ClientUnaryCall,
} from "@grpc/grpc-js";
import { Batcher } from "./batches.js";
import { AssayError } from "./errors.js";
import type { Feature } from "./gen/assay/v1/concept.js";
import { type Limits, type Model, ModelServiceClient } from "./gen/assay/v1/model.js";
import {
  type DeepPartial,
  EncodeTokensRequest,
  type EncodeTokensResponse,
  type PairScore,
  type ResponseScore,
  ScoreOptions,
  ScoringServiceClient,
} from "./gen/assay/v1/scoring.js";
import { type Outcome, type PairInput, type ResponseInput, toOutcome, toPair, toPromptedResponse } from "./items.js";
import { PairStream } from "./stream.js";

/** Where the server is and how to speak to it. */
export interface ClientOptions {
  /** Host and port. Default: "127.0.0.1:50151". */
  readonly address?: string;
  /** Sent as a bearer token with every call. Default: none. */
  readonly token?: string;
  /** Channel credentials, for example `credentials.createSsl()` of @grpc/grpc-js. Default: plain text. */
  readonly credentials?: ChannelCredentials;
  /** Seconds that a unary call may take. Default: 60. */
  readonly timeoutSeconds?: number;
  /** Options of the gRPC channel, over this client's own. */
  readonly channelOptions?: ChannelOptions;
}

/** How one unary call behaves. */
export interface CallOptions {
  /** Seconds that the call may take. Default: the client's. */
  readonly timeoutSeconds?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
}

/** How `score` streams. */
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

/** What to compute and send back; every field has a default, told in the contract. */
export type Options = DeepPartial<ScoreOptions>;

const DEFAULT_ADDRESS = "127.0.0.1:50151";
const TARGET_MESSAGE_BYTES = 1 << 20;
const UNARY_RETRIES = {
  maxAttempts: 5,
  initialBackoff: "0.2s",
  maxBackoff: "5s",
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
};
const SERVICE_CONFIG = {
  methodConfig: [
    {
      // Not StreamPairs: it resumes by itself, and gRPC would keep all that was sent for a second sending.
      name: [
        { service: "assay.v1.ModelService" },
        { service: "assay.v1.ScoringService", method: "ScorePairs" },
        { service: "assay.v1.ScoringService", method: "ScoreResponses" },
        { service: "assay.v1.ScoringService", method: "EncodeTokens" },
      ],
      retryPolicy: UNARY_RETRIES,
    },
  ],
};

/** A connection to an Assay server. Close it when done. */
export class Client {
  readonly #channel: Channel;
  readonly #models: ModelServiceClient;
  readonly #scoring: ScoringServiceClient;
  readonly #timeoutSeconds: number;
  readonly #metadata = new Metadata();
  #limits: Limits | undefined;

  constructor(options: ClientOptions = {}) {
    const address = options.address ?? DEFAULT_ADDRESS;
    const secrets = options.credentials ?? credentials.createInsecure();
    this.#channel = new Channel(address, secrets, {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      // The server's own limits hold, told by GetModel; results with all features exceed gRPC's default of 4 MiB.
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5000,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      ...options.channelOptions,
    });
    this.#models = new ModelServiceClient(address, secrets, { channelOverride: this.#channel });
    this.#scoring = new ScoringServiceClient(address, secrets, { channelOverride: this.#channel });
    this.#timeoutSeconds = options.timeoutSeconds ?? 60;
    if (options.token !== undefined) this.#metadata.set("authorization", `Bearer ${options.token}`);
  }

  /** The loaded model, its SAE, their measured fit, and the limits in force. */
  async model(call: CallOptions = {}): Promise<Model> {
    const { model } = await this.#unary(this.#models.getModel.bind(this.#models), { name: "" }, call);
    return present(model, "model");
  }

  /** Scores a few pairs in one call, ahead of bulk streams: one outcome for each, in order. */
  async scorePairs(
    pairs: readonly PairInput[],
    options: Options = {},
    call: CallOptions = {},
  ): Promise<Outcome<PairScore>[]> {
    const request = { pairs: pairs.map(toPair), options: ScoreOptions.fromPartial(options) };
    const { results } = await this.#unary(this.#scoring.scorePairs.bind(this.#scoring), request, call);
    return results.map((result, index) => toOutcome(result, index));
  }

  /**
   * Scores any number of pairs: one outcome for each, in order, while the source is read no faster than the server
   * answers. A broken connection is opened again and continued after the last answer that came.
   */
  async *score(
    pairs: Iterable<PairInput> | AsyncIterable<PairInput>,
    options: Options = {},
    stream: StreamOptions = {},
  ): AsyncGenerator<Outcome<PairScore>, void, undefined> {
    const { signal } = stream;
    const limits = await this.#knownLimits(signal);
    const pairsPerMessage = Math.min(stream.pairsPerMessage ?? 32, limits.maxPairsPerMessage);
    const batcher = new Batcher(pairs, {
      pairs: positive(pairsPerMessage, "pairsPerMessage"),
      targetBytes: Math.min(TARGET_MESSAGE_BYTES, limits.maxMessageBytes),
      maxBytes: limits.maxMessageBytes - MESSAGE_OVERHEAD_BYTES,
      lingerMs: stream.lingerMs ?? 20,
    });
    yield* new PairStream(() => this.#scoring.streamPairs(this.#metadata), batcher, {
      options: ScoreOptions.fromPartial(options),
      maxPairsInFlight: positive(stream.maxPairsInFlight ?? 16 * pairsPerMessage, "maxPairsInFlight"),
      maxBytes: limits.maxMessageBytes,
      attempts: positive(stream.attempts ?? 10, "attempts"),
      initialBackoffMs: stream.initialBackoffMs ?? 200,
      maxBackoffMs: stream.maxBackoffMs ?? 5000,
      signal,
    }).outcomes();
  }

  /** Scores single responses: one outcome for each, in order. */
  async scoreResponses(
    responses: readonly ResponseInput[],
    options: Options = {},
    call: CallOptions = {},
  ): Promise<Outcome<ResponseScore>[]> {
    const request = { responses: responses.map(toPromptedResponse), options: ScoreOptions.fromPartial(options) };
    const { results } = await this.#unary(this.#scoring.scoreResponses.bind(this.#scoring), request, call);
    return results.map((result, index) => toOutcome(result, index));
  }

  /** Token-level activations of named features on one text, with character offsets. */
  async encodeTokens(request: DeepPartial<EncodeTokensRequest>, call: CallOptions = {}): Promise<EncodeTokensResponse> {
    const message = EncodeTokensRequest.fromPartial(request);
    return this.#unary(this.#scoring.encodeTokens.bind(this.#scoring), message, call);
  }

  /** Labels and evidence of features, in the order asked. */
  async features(ids: readonly number[], call: CallOptions = {}): Promise<Feature[]> {
    const request = { parent: "", ids: [...ids] };
    const { features } = await this.#unary(this.#models.batchGetFeatures.bind(this.#models), request, call);
    return features;
  }

  /** All features, or those whose label or tokens contain `filter`, by ascending id; pages are fetched as needed. */
  async *listFeatures(filter = "", call: CallOptions = {}): AsyncGenerator<Feature, void, undefined> {
    let pageToken = "";
    do {
      const request = { parent: "", pageSize: 0, pageToken, filter };
      const page = await this.#unary(this.#models.listFeatures.bind(this.#models), request, call);
      yield* page.features;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** Closes the channel; calls under way fail. */
  close(): void {
    this.#channel.close();
  }

  /** The limits in force, asked for until they are known. */
  async #knownLimits(signal: AbortSignal | undefined): Promise<Limits> {
    if (this.#limits === undefined) {
      const { limits } = await this.model(signal === undefined ? {} : { signal });
      this.#limits = present(limits, "limits");
    }
    return this.#limits;
  }

  /** Runs one unary call with its deadline; rejects with `AssayError`, or with the signal's reason. */
  #unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    { signal, timeoutSeconds = this.#timeoutSeconds }: CallOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const deadline = Date.now() + timeoutSeconds * 1000;
      const abort = (): void => call.cancel();
      const call = method(request, this.#metadata, { deadline }, (error, response) => {
        signal?.removeEventListener("abort", abort);
        if (error === null) resolve(response);
        else reject(signal?.aborted === true ? signal.reason : AssayError.fromCall(error));
      });
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<GrpcCallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** What a batch adds around its pairs: tags, lengths and the sequence number. */
const MESSAGE_OVERHEAD_BYTES = 64;

function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new AssayError(2, `the server's answer holds no ${name}`, { reason: "BAD_ANSWER" });
  return value;
}

function positive(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name} is ${value}; it must be an integer of at least 1`);
  return value;
}
