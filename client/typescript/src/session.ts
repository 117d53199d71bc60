/** What every part of the client stands on: the channel, its options, and unary calls with their deadlines and errors. */

import {
  Channel,
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  Metadata,
  type ServiceError,
  type CallOptions as GrpcCallOptions,
  type ClientUnaryCall,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { AssayError } from "./errors.js";
import { AuditServiceService } from "./gen/assay/v1/audit_service.js";
import { ConceptServiceService } from "./gen/assay/v1/concept_service.js";
import { InterventionServiceService } from "./gen/assay/v1/intervention_service.js";
import { type Limits, type Model, ModelServiceClient, ModelServiceService } from "./gen/assay/v1/model.js";
import { ScoringServiceService } from "./gen/assay/v1/scoring.js";
import { OperationsService } from "./gen/google/longrunning/operations.js";

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
  /** The largest answer that this client takes, in bytes. Default: 256 MiB. */
  readonly maxReceiveBytes?: number;
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

const DEFAULT_ADDRESS = "127.0.0.1:50151";
const MAX_RECEIVE_BYTES = 256 << 20;
const UNARY_RETRIES = {
  maxAttempts: 5,
  initialBackoff: "0.2s",
  maxBackoff: "5s",
  backoffMultiplier: 2,
  retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
};
/** The contract's services. */
export const SERVICES: readonly ServiceDefinition[] = [
  ModelServiceService,
  ScoringServiceService,
  AuditServiceService,
  ConceptServiceService,
  InterventionServiceService,
  OperationsService,
];
/**
 * Every unary method of the contract, from its descriptors. Not streams: StreamPairs and UploadPairs resume by themselves, and
 * gRPC would keep all that was sent for a second sending; half a file cannot be sent twice.
 */
export const UNARY_METHODS = SERVICES.flatMap((service) => Object.values(service))
  .filter(({ requestStream, responseStream }) => !requestStream && !responseStream)
  .map(({ path }) => {
    const [, service = "", method = ""] = path.split("/");
    return { service, method };
  });
const SERVICE_CONFIG = { methodConfig: [{ name: UNARY_METHODS, retryPolicy: UNARY_RETRIES }] };

/** One channel to one server. */
export class Session {
  protected readonly channel: Channel;
  protected readonly metadata = new Metadata();
  protected readonly stubArguments: StubArguments;
  protected readonly models: ModelServiceClient;
  readonly #timeoutSeconds: number;
  #limits: Limits | undefined;

  constructor(options: ClientOptions = {}) {
    const address = options.address ?? DEFAULT_ADDRESS;
    const secrets = options.credentials ?? credentials.createInsecure();
    this.channel = new Channel(address, secrets, {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      // Results with all features, and hypotheses with much evidence, exceed gRPC's default of 4 MiB.
      "grpc.max_receive_message_length": positive(options.maxReceiveBytes ?? MAX_RECEIVE_BYTES, "maxReceiveBytes"),
      // What is sent keeps to the server's own limits, told by GetModel.
      "grpc.max_send_message_length": -1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5000,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      ...options.channelOptions,
    });
    this.stubArguments = [address, secrets, { channelOverride: this.channel }];
    this.models = new ModelServiceClient(...this.stubArguments);
    this.#timeoutSeconds = options.timeoutSeconds ?? 60;
    if (options.token !== undefined) this.metadata.set("authorization", `Bearer ${options.token}`);
  }

  /** The loaded model, its SAE, their measured fit, and the limits in force. */
  async model(call: CallOptions = {}): Promise<Model> {
    const { model } = await this.unary(this.models.getModel.bind(this.models), { name: "" }, call);
    return present(model, "model");
  }

  /** Closes the channel; calls under way fail. */
  close(): void {
    this.channel.close();
  }

  /** The limits in force, asked for until they are known. */
  protected async knownLimits(signal: AbortSignal | undefined): Promise<Limits> {
    if (this.#limits === undefined) {
      const { limits } = await this.model(signal === undefined ? {} : { signal });
      this.#limits = present(limits, "limits");
    }
    return this.#limits;
  }

  /** Runs one unary call with its deadline; rejects with `AssayError`, or with the signal's reason. */
  protected unary<Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    { signal, timeoutSeconds = this.#timeoutSeconds }: CallOptions,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const deadline = Date.now() + timeoutSeconds * 1000;
      const abort = (): void => call.cancel();
      const call = method(request, this.metadata, { deadline }, (error, response) => {
        signal?.removeEventListener("abort", abort);
        if (error === null) resolve(response);
        else reject(signal?.aborted === true ? signal.reason : AssayError.fromCall(error));
      });
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}

type StubArguments = [string, ChannelCredentials, { channelOverride: Channel }];

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<GrpcCallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** What a batch adds around its pairs: tags, lengths and the sequence number. */
export const MESSAGE_OVERHEAD_BYTES = 64;

/** Bytes that a message of pairs is filled to. */
export const TARGET_MESSAGE_BYTES = 1 << 20;

/** A field that every answer holds. */
export function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new AssayError(2, `the server's answer holds no ${name}`, { reason: "BAD_ANSWER" });
  return value;
}

/** The number, where it is a positive integer. */
export function positive(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name} is ${value}; it must be an integer of at least 1`);
  return value;
}
