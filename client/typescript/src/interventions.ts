/**
 * Plans: decisions compiled into what a training run applies, offsets of pairs, and rewards of fresh responses.
 *
 *     const about = { target: { $case: "concept", value: "feature/17" }, mode: InterventionMode.EXPLAIN_AWAY } as const;
 *     const plan = await (await client.createPlan(dataset.name, [about])).wait();
 *     for await (const { id, offset } of client.streamOffsets(plan.name, pairs, { beta: 0.1 })) console.log(id, offset?.offset);
 */

import { AssayError } from "./errors.js";
import { InterventionSpec, Plan } from "./gen/assay/v1/intervention.js";
import {
  type DeepPartial,
  InterventionServiceClient,
  OffsetOptions,
  type OffsetResult,
  type PairOffset,
  type PlanTarget,
  type RewardResult,
  type ShapedReward,
  type StreamOffsetsRequest,
} from "./gen/assay/v1/intervention_service.js";
import { Truncation } from "./gen/assay/v1/scoring.js";
import { freshId, reader, type StartOptions } from "./audits.js";
import { type PairInput, type ResponseInput, toPromptedResponse } from "./items.js";
import type { Operation } from "./operations.js";
import { type CallOptions, type ClientOptions, present } from "./session.js";
import { StreamMethods, type StreamOptions } from "./streaming.js";

/** What to put into a plan; every field but the target has a default, told in the contract. */
export type Intervene = DeepPartial<InterventionSpec>;

/** What offsets are asked with; every field has a default, told in the contract. */
export type OffsetSettings = DeepPartial<Omit<OffsetOptions, "plan">>;

/** How rewards are asked for. */
export interface RewardOptions extends CallOptions {
  /** The task's own rewards, one for each response. Default: 0 for each. */
  readonly rewards?: readonly number[];
  /** What the plan is applied to; another model or tokenizer than the plan's is refused. */
  readonly target?: PlanTarget;
  /** Default: refuse long sequences. */
  readonly truncation?: Truncation;
}

/** An offset, or why there is none. A bad pair fails alone. */
export type OffsetOutcome = { readonly index: number; readonly id: string } & (
  { readonly offset: PairOffset; readonly error?: never } | { readonly offset?: never; readonly error: AssayError }
);

/** A shaped reward, or why there is none. */
export type RewardOutcome = { readonly index: number; readonly id: string } & (
  { readonly reward: ShapedReward; readonly error?: never } | { readonly reward?: never; readonly error: AssayError }
);

/** The part of the client that plans. */
export class InterventionMethods extends StreamMethods {
  readonly #plans: InterventionServiceClient;

  constructor(options: ClientOptions = {}) {
    super(options);
    this.#plans = new InterventionServiceClient(...this.stubArguments);
  }

  /** Starts the making of a plan, and returns at once; `wait` of what it returns waits for it. */
  async createPlan(
    dataset: string,
    interventions: readonly Intervene[],
    start: StartOptions = {},
  ): Promise<Operation<Plan>> {
    const request = {
      planId: "",
      displayName: start.displayName ?? "",
      dataset,
      interventions: interventions.map((one) => InterventionSpec.fromPartial(one)),
      requestId: start.requestId ?? freshId(),
    };
    return this.begun(await this.unary(this.#plans.createPlan.bind(this.#plans), request, start), readPlan);
  }

  /** One plan. */
  async getPlan(name: string, call: CallOptions = {}): Promise<Plan> {
    const { plan } = await this.unary(this.#plans.getPlan.bind(this.#plans), { name }, call);
    return present(plan, "plan");
  }

  /** Offsets of any number of pairs, by all offset families of a plan together: streamed and resumed as `score`. */
  async *streamOffsets(
    plan: string,
    pairs: Iterable<PairInput> | AsyncIterable<PairInput>,
    options: OffsetSettings = {},
    stream: StreamOptions = {},
  ): AsyncGenerator<OffsetOutcome, void, undefined> {
    const value = OffsetOptions.fromPartial({ ...options, plan });
    const open = () => this.#plans.streamOffsets(this.metadata);
    yield* this.streamed<StreamOffsetsRequest, OffsetResult, OffsetOutcome>(open, pairs, stream, {
      head: { payload: { $case: "options", value } },
      batch: (batch) => ({ payload: { $case: "batch", value: batch } }),
      outcome: toOffset,
      refusal: (index, id, error) => ({ index, id, error }),
    });
  }

  /** Rewards of fresh responses along a plan: one outcome for each, in order. */
  async scoreRewards(
    plan: string,
    responses: readonly ResponseInput[],
    options: RewardOptions = {},
  ): Promise<RewardOutcome[]> {
    const request = {
      plan,
      responses: responses.map(toPromptedResponse),
      rewards: [...(options.rewards ?? [])],
      target: options.target,
      truncation: options.truncation ?? Truncation.UNSPECIFIED,
    };
    const { results } = await this.unary(this.#plans.scoreRewards.bind(this.#plans), request, options);
    return results.map(toReward);
  }
}

const readPlan = reader("assay.v1.Plan", (bytes) => Plan.decode(bytes));

function toOffset({ id, outcome }: OffsetResult, index: number): OffsetOutcome {
  switch (outcome?.$case) {
    case "offset":
      return { index, id, offset: outcome.value };
    case "error":
      return { index, id, error: AssayError.fromStatus(outcome.value) };
    default:
      return { index, id, error: new AssayError(2, "the result holds neither an offset nor an error") };
  }
}

function toReward({ id, outcome }: RewardResult, index: number): RewardOutcome {
  switch (outcome?.$case) {
    case "reward":
      return { index, id, reward: outcome.value };
    case "error":
      return { index, id, error: AssayError.fromStatus(outcome.value) };
    default:
      return { index, id, error: new AssayError(2, "the result holds neither a reward nor an error") };
  }
}
