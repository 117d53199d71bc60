/** Typed client of Assay: everything public, and nothing else. */

export { type CallOptions, Client, type ClientOptions, type Options, type StreamOptions } from "./client.js";
export { AssayError, type FieldViolation } from "./errors.js";
export type { ConceptSpec, Feature } from "./gen/assay/v1/concept.js";
export type { Limits, Model } from "./gen/assay/v1/model.js";
export { type Message, type SparseVector, type Tensor, Tensor_Dtype as Dtype } from "./gen/assay/v1/pair.js";
export {
  CacheMode,
  CacheState,
  type ConceptScore,
  type EncodeTokensResponse,
  type FeatureRanking,
  Lane,
  type PairScore,
  type PooledFeatures,
  type ResponseScore,
  type Timings,
  type TokenActivations,
  type TokenCounts,
  Truncation,
} from "./gen/assay/v1/scoring.js";
export type { Outcome, PairInput, Prompt, ResponseInput } from "./items.js";
