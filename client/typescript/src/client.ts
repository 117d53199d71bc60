/**
 * The client: one channel, one method for each thing that the service answers.
 *
 * Unary calls have a deadline and are retried by gRPC's own service config where the server was unreachable or asked
 * for patience. `score` streams: see stream.ts for what it holds to.
 */

import type { Feature } from "./gen/assay/v1/concept.js";
import {
  type DeepPartial,
  EncodeTokensRequest,
  type EncodeTokensResponse,
  type PairResult,
  type PairScore,
  type ResponseScore,
  ScoreOptions,
  ScoringServiceClient,
  type StreamPairsRequest,
} from "./gen/assay/v1/scoring.js";
import { InterventionMethods } from "./interventions.js";
import { type Outcome, type PairInput, type ResponseInput, toOutcome, toPair, toPromptedResponse } from "./items.js";
import type { CallOptions, ClientOptions } from "./session.js";
import type { StreamOptions } from "./streaming.js";

/** What to compute and send back; every field has a default, told in the contract. */
export type Options = DeepPartial<ScoreOptions>;

/** A connection to an Assay server. Close it when done. */
export class Client extends InterventionMethods {
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
    const value = { score: ScoreOptions.fromPartial(options) };
    yield* this.streamed<StreamPairsRequest, PairResult, Outcome<PairScore>>(
      () => this.#scoring.streamPairs(this.metadata),
      pairs,
      stream,
      {
        head: { payload: { $case: "options", value } },
        batch: (batch) => ({ payload: { $case: "batch", value: batch } }),
        outcome: (result: PairResult, index) => toOutcome(result, index),
        refusal: (index, id, error) => ({ index, id, error }),
      },
    );
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
