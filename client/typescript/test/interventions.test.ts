/** Plans, offsets over any number of connections, and rewards. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { InterventionFamily, InterventionMode, type PairInput } from "../src/index.js";
import { collect, serve, somePairs } from "./support.js";

const QUICK = { initialBackoffMs: 5, maxBackoffMs: 20, pairsPerMessage: 3 };
const LOST = { code: status.UNAVAILABLE, details: "going away" };

test("a plan is made of what is asked, with the contract's defaults, and found again", async (t) => {
  const { server, client } = await serve(t);
  const about = { target: { $case: "concept", value: "feature/17" }, mode: InterventionMode.EXPLAIN_AWAY } as const;
  const decided = { target: { $case: "decision", value: "audits/a/decisions/d" }, strength: 0.5 } as const;
  const run = await client.createPlan("datasets/one", [about, decided], { requestId: "r", displayName: "mine" });
  assert.equal((await run.wait()).dataset, "datasets/one");
  const [asked] = server.planner.asked;
  assert.deepEqual([asked?.requestId, asked?.displayName], ["r", "mine"]);
  assert.deepEqual(
    asked?.interventions.map(({ target, mode, strength, family }) => [target?.value, mode, strength, family]),
    [
      ["feature/17", InterventionMode.EXPLAIN_AWAY, undefined, InterventionFamily.UNSPECIFIED],
      ["audits/a/decisions/d", InterventionMode.UNSPECIFIED, 0.5, InterventionFamily.UNSPECIFIED],
    ],
  );
  assert.equal((await client.getPlan("plans/one")).name, "plans/one");
  await assert.rejects(client.getPlan("plans/none"), { code: status.NOT_FOUND });
});

test("offsets come in the order of the pairs, whatever breaks in between, and a bad pair fails alone", async (t) => {
  const { server, client } = await serve(t);
  for (const batches of [2, 0, 3]) server.planner.ends.push({ batches, failure: LOST });
  const pairs: PairInput[] = somePairs(40).map((pair, at) => (at === 7 ? { ...pair, chosen: "" } : pair));
  const target = { modelFingerprint: "m", tokenizerFingerprint: "", datasetFingerprint: "" };
  const outcomes = await collect(client.streamOffsets("plans/one", pairs, { beta: 0.1, target }, QUICK));
  assert.deepEqual(
    outcomes.map(({ index, id }) => [index, id]),
    pairs.map(({ id }, at) => [at, id]),
  );
  for (const [at, { offset, error }] of outcomes.entries()) {
    if (at === 7) assert.equal(error?.reason, "EMPTY_SPAN");
    else assert.equal(offset?.offset, (pairs[at]?.chosen.length ?? 0) - 1);
  }
  assert.equal(server.planner.heads.length, 4);
  for (const head of server.planner.heads) {
    assert.deepEqual([head.plan, head.beta, head.target?.modelFingerprint], ["plans/one", 0.1, "m"]);
  }
});

test("a refusal ends the stream of offsets with the server's words", async (t) => {
  const { server, client } = await serve(t);
  server.planner.ends.push({ batches: 0, failure: { code: status.FAILED_PRECONDITION, details: "another model" } });
  await assert.rejects(collect(client.streamOffsets("plans/one", somePairs(5), {}, QUICK)), {
    code: status.FAILED_PRECONDITION,
  });
});

test("rewards are shaped one by one", async (t) => {
  const { server, client } = await serve(t);
  const prompt = [{ role: "user", content: "q" }];
  const responses = ["abc", "", "a"].map((response, at) => ({ id: `${at}`, prompt, response }));
  const [first, second, third] = await client.scoreRewards("plans/one", responses, { rewards: [1, 2, 3] });
  assert.deepEqual([first?.reward?.reward, first?.reward?.penalty], [-2, 3]);
  assert.equal(second?.error?.reason, "EMPTY_SPAN");
  assert.deepEqual([third?.index, third?.id, third?.reward?.reward], [2, "2", 2]);
  assert.equal((await client.scoreRewards("plans/one", responses))[0]?.reward?.reward, -3);
  assert.deepEqual(server.planner.rewarded[1]?.rewards, []);
});
