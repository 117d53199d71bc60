/** Plans of the test server: made at once, with offsets and rewards that are functions of the texts. */

import {
  type sendUnaryData,
  type Server,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { Plan } from "../src/gen/assay/v1/intervention.js";
import {
  type CreatePlanRequest,
  type GetPlanRequest,
  GetPlanResponse,
  InterventionServiceService,
  type OffsetOptions,
  OffsetResult,
  RewardResult,
  type ScoreRewardsRequest,
  type ScoreRewardsResponse,
  type StreamOffsetsRequest,
  type StreamOffsetsResponse,
} from "../src/gen/assay/v1/intervention_service.js";
import type { Pair } from "../src/gen/assay/v1/pair.js";
import { Operation } from "../src/gen/google/longrunning/operations.js";
import { richMessage } from "./support.js";

/** What was asked of the planner, and how its streams break. */
export class Planner {
  readonly asked: CreatePlanRequest[] = [];
  readonly heads: OffsetOptions[] = [];
  readonly rewarded: ScoreRewardsRequest[] = [];
  /** How the next streams end, one each: after so many batches, with this failure. */
  readonly ends: { batches: number; failure: Partial<StatusObject> }[] = [];

  add(server: Server): void {
    server.addService(InterventionServiceService, {
      createPlan: (call: ServerUnaryCall<CreatePlanRequest, Operation>, reply: sendUnaryData<Operation>) => {
        this.asked.push(call.request);
        const plan = Plan.fromPartial({ name: "plans/one", dataset: call.request.dataset });
        const response = {
          typeUrl: "type.googleapis.com/assay.v1.Plan",
          value: Buffer.from(Plan.encode(plan).finish()),
        };
        reply(
          null,
          Operation.fromPartial({
            name: "operations/plan",
            done: true,
            result: { $case: "response", value: response },
          }),
        );
      },
      getPlan: (call: ServerUnaryCall<GetPlanRequest, GetPlanResponse>, reply: sendUnaryData<GetPlanResponse>) => {
        if (call.request.name === "plans/one")
          reply(null, GetPlanResponse.fromPartial({ plan: { name: "plans/one" } }));
        else reply({ code: status.NOT_FOUND, details: `there is no ${call.request.name}` });
      },
      streamOffsets: (call: Stream) => void this.#stream(call),
      scoreRewards: (
        { request }: ServerUnaryCall<ScoreRewardsRequest, ScoreRewardsResponse>,
        reply: sendUnaryData<ScoreRewardsResponse>,
      ) => {
        this.rewarded.push(request);
        const results = request.responses.map(({ id, response }, at) => {
          if (response === "") return RewardResult.fromPartial({ id, outcome: { $case: "error", value: EMPTY } });
          const reward = { reward: (request.rewards[at] ?? 0) - response.length, penalty: response.length };
          return RewardResult.fromPartial({ id, outcome: { $case: "reward", value: reward } });
        });
        reply(null, { results });
      },
    });
  }

  async #stream(call: Stream): Promise<void> {
    try {
      const failure = await this.#answerAll(call);
      if (failure === undefined) call.end();
      else call.emit("error", failure);
    } catch {
      // The client is gone.
    }
  }

  async #answerAll(call: Stream): Promise<Partial<StatusObject> | undefined> {
    const end = this.ends.shift();
    let answered = 0;
    // Not destroyed with the loop: the call's status still has to go out.
    const requests: AsyncIterable<StreamOffsetsRequest> = call.iterator({ destroyOnReturn: false });
    for await (const { payload } of requests) {
      if (payload?.$case === "options") this.heads.push(payload.value);
      if (payload?.$case !== "batch") continue;
      if (end?.batches === answered) return end.failure;
      call.write({ sequence: payload.value.sequence, results: payload.value.pairs.map(resultOf) });
      answered += 1;
    }
    return undefined;
  }
}

type Stream = ServerDuplexStream<StreamOffsetsRequest, StreamOffsetsResponse>;

const EMPTY = richMessage(status.INVALID_ARGUMENT, "the response is empty", { reason: "EMPTY_SPAN" });

function resultOf({ id, chosen, rejected }: Pair): OffsetResult {
  if (chosen === "") return OffsetResult.fromPartial({ id, outcome: { $case: "error", value: EMPTY } });
  const offset = { chosen: chosen.length, rejected: rejected.length, offset: chosen.length - rejected.length };
  return OffsetResult.fromPartial({ id, outcome: { $case: "offset", value: offset } });
}
