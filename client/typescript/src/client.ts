/**
 * The client: one channel, one method for each thing that the service answers.
 *
 * Unary calls have a deadline and are retried by gRPC's own service config where the server was unreachable or asked
 * for patience. `score` streams: see stream.ts for what it holds to.
 */

import { AuditMethods } from "./audits.js";
import { Batcher } from "./batches.js";
import type { Feature } from "./gen/assay/v1/concept.js";
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
import {
  type CallOptions,
  type ClientOptions,
  MESSAGE_OVERHEAD_BYTES,
  positive,
  TARGET_MESSAGE_BYTES,
} from "./session.js";
import { PairStream } from "./stream.js";

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

/** A connection to an Assay server. Close it when done. */
export class Client extends AuditMethods {
  readonly #scoring: ScoringServiceClient;

  constructor(options: ClientOptions = {}) {
    super(options);
    this.#scoring = new ScoringServiceClient(...this.stubArguments);
  }

  /** Scores a few pairs in one call, ahead of bulk streams: one outcome for each, in order. */
  async scorePairs(
    pairs: readonly PairInput[],
    options: Options = {},
    call: CallOptions = {},
  ): Promise<Outcome<PairScore>[]> {
    const request = { pairs: pairs.map(toPair), options: ScoreOptions.fromPartial(options) };
    const { results } = await this.unary(this.#scoring.scorePairs.bind(this.#scoring), request, call);
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
    const limits = await this.knownLimits(signal);
    const pairsPerMessage = Math.min(stream.pairsPerMessage ?? 32, limits.maxPairsPerMessage);
    const batcher = new Batcher(pairs, {
      pairs: positive(pairsPerMessage, "pairsPerMessage"),
      targetBytes: Math.min(TARGET_MESSAGE_BYTES, limits.maxMessageBytes),
      maxBytes: limits.maxMessageBytes - MESSAGE_OVERHEAD_BYTES,
      lingerMs: stream.lingerMs ?? 20,
    });
    yield* new PairStream(() => this.#scoring.streamPairs(this.metadata), batcher, {
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
    const { results } = await this.unary(this.#scoring.scoreResponses.bind(this.#scoring), request, call);
    return results.map((result, index) => toOutcome(result, index));
  }

  /** Token-level activations of named features on one text, with character offsets. */
  async encodeTokens(request: DeepPartial<EncodeTokensRequest>, call: CallOptions = {}): Promise<EncodeTokensResponse> {
    const message = EncodeTokensRequest.fromPartial(request);
    return this.unary(this.#scoring.encodeTokens.bind(this.#scoring), message, call);
  }

  /** Labels and evidence of features, in the order asked. */
  async features(ids: readonly number[], call: CallOptions = {}): Promise<Feature[]> {
    const request = { parent: "", ids: [...ids] };
    const { features } = await this.unary(this.models.batchGetFeatures.bind(this.models), request, call);
    return features;
  }

  /** All features, or those whose label or tokens contain `filter`, by ascending id; pages are fetched as needed. */
  async *listFeatures(filter = "", call: CallOptions = {}): AsyncGenerator<Feature, void, undefined> {
    let pageToken = "";
    do {
      const request = { parent: "", pageSize: 0, pageToken, filter };
      const page = await this.unary(this.models.listFeatures.bind(this.models), request, call);
      yield* page.features;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }
}
