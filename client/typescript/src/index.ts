/** Typed client of Assay: everything public, and nothing else. */

export type { AuditSettings, DecisionDetails, StartOptions, StatedCondition, UploadSettings } from "./audits.js";
export { Client, type Options } from "./client.js";
export { AssayError, type FieldViolation } from "./errors.js";
export {
  type Audit,
  type AuditOptions,
  Audit_State as AuditState,
  ConceptFamily,
  type ConceptRef,
  type Condition,
  Correction,
  type Dataset,
  type Decision,
  Decision_Mode as DecisionMode,
  type Effect,
  type Evidence,
  type FamilySummary,
  type Highlight,
  type Hypothesis,
  Nuisance,
  View,
  type ViewSummary,
} from "./gen/assay/v1/audit.js";
export type { ConceptSpec, Feature } from "./gen/assay/v1/concept.js";
export {
  EditedSpan,
  type Intervention,
  InterventionFamily,
  InterventionMode,
  type InterventionParameters,
  type Plan,
  ResponseSide,
} from "./gen/assay/v1/intervention.js";
export type { PairOffset, PlanTarget, ShapedReward } from "./gen/assay/v1/intervention_service.js";
export type { Intervene, OffsetOutcome, OffsetSettings, RewardOptions, RewardOutcome } from "./interventions.js";
export type { Limits, Model } from "./gen/assay/v1/model.js";
export { type Message, type SparseVector, type Tensor, Tensor_Dtype as Dtype } from "./gen/assay/v1/pair.js";
export type { OperationMetadata as OperationProgress } from "./gen/assay/v1/operations.js";
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
export { type Operation, type WaitOptions } from "./operations.js";
export type { CallOptions, ClientOptions } from "./session.js";
export type { StreamOptions } from "./streaming.js";
