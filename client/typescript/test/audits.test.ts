/** Uploads that resume, audits that are waited for, and what is read and decided afterwards. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { AssayError, Client, type OperationProgress, type PairInput } from "../src/index.js";
import { Audit, Decision_Mode, Hypothesis, Nuisance, View } from "../src/gen/assay/v1/audit.js";
import { operation } from "./audit-support.js";
import { collect, richMessage, richStatus, serve, somePairs, type TestServer } from "./support.js";

const QUICK = { initialBackoffMs: 5, maxBackoffMs: 20, pairsPerMessage: 3 };
const LOST = { code: status.UNAVAILABLE, details: "going away" };
const AUDIT = Audit.fromPartial({
  name: "audits/one",
  views: [{ view: View.GLOBAL, findingsRaw: 9, note: "As told." }],
});

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${i}`);
}

test("every pair arrives once and in order, and progress is told", async (t) => {
  const { server, client } = await serve(t);
  const told: number[] = [];
  const onProgress = (pairs: number): void => void told.push(pairs);
  const dataset = await client.uploadPairs(somePairs(20), { requestId: "up", onProgress, ...QUICK });
  assert.equal(dataset.pairs, 20);
  assert.deepEqual(server.shelf.uploads.get("up")?.flat().map(({ id }) => id), ids(20)); // prettier-ignore
  assert.equal(told.at(-1), 20);
});

test("a connection that breaks again and again costs no pair and doubles none", async (t) => {
  const { server, client } = await serve(t);
  for (const batches of [2, 0, 5, 1]) server.shelf.uploadEnds.push({ batches, failure: LOST });
  const dataset = await client.uploadPairs(somePairs(60), { requestId: "up", maxBytesInFlight: 200, ...QUICK });
  assert.equal(dataset.pairs, 60);
  assert.deepEqual(server.shelf.uploads.get("up")?.flat().map(({ id }) => id), ids(60)); // prettier-ignore
  assert.ok(server.shelf.received.length >= 5);
});

test("another process goes on after what the server has", async (t) => {
  const { server, client } = await serve(t);
  await assert.rejects(client.uploadPairs(torn(server, 21), { requestId: "up", ...QUICK }), { message: "enough" });
  assert.equal(server.shelf.complete.size, 0, "half of the pairs are no dataset");
  const told: number[] = [];
  const settings = { requestId: "up", ...QUICK, pairsPerMessage: 7, onProgress: (n: number) => void told.push(n) };
  assert.equal((await client.uploadPairs(somePairs(40), settings)).pairs, 40);
  assert.deepEqual(server.shelf.uploads.get("up")?.flat().map(({ id }) => id), ids(40)); // prettier-ignore
  assert.ok((told[0] ?? 0) > 21);
  const connections = server.shelf.received.length;
  assert.equal((await client.uploadPairs(somePairs(40), settings)).pairs, 40);
  assert.equal(server.shelf.received.length, connections, "a complete upload sends nothing");
});

test("an id that stands for more pairs is refused", async (t) => {
  const { server, client } = await serve(t);
  await assert.rejects(client.uploadPairs(torn(server, 12), { requestId: "up", ...QUICK }), { message: "enough" });
  await assert.rejects(client.uploadPairs(somePairs(5), { requestId: "up", ...QUICK }), { reason: "OTHER_UPLOAD" });
});

test("an id that made a dataset of another number of pairs is refused", async (t) => {
  const { client } = await serve(t);
  await client.uploadPairs(somePairs(5), { requestId: "up", ...QUICK });
  await assert.rejects(client.uploadPairs(somePairs(6), { requestId: "up", ...QUICK }), { reason: "OTHER_UPLOAD" });
});

test("a dataset of another number of pairs than were sent is an error", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.dropped = 1;
  await assert.rejects(client.uploadPairs(somePairs(9), QUICK), {
    reason: "PAIRS_DIFFER",
    details: { sent: "9", stored: "8" },
  });
});

test("an answer that was lost is asked for again with the end alone", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.uploadEnds.push({ batches: 99, failure: LOST });
  assert.equal((await client.uploadPairs(somePairs(9), { requestId: "up", ...QUICK })).pairs, 9);
  assert.deepEqual(server.shelf.received, [[0, 1, 2], []]);
});

test("a refusal arrives with its reason and is not repeated", async (t) => {
  const { server, client } = await serve(t);
  const failure = richStatus(status.INVALID_ARGUMENT, "too large", { reason: "DATASET_TOO_LARGE" });
  server.shelf.uploadEnds.push({ batches: 1, failure });
  await assert.rejects(client.uploadPairs(somePairs(9), QUICK), { reason: "DATASET_TOO_LARGE" });
  assert.equal(server.shelf.received.length, 1);
});

test("a pair that no message holds is named with both numbers", async (t) => {
  const { client } = await serve(t, { maxMessageBytes: 1000 });
  const pairs = [...somePairs(1), { ...somePairs(1)[0]!, chosen: "a".repeat(2000) }];
  await assert.rejects(client.uploadPairs(pairs, QUICK), (error: unknown) => {
    assert.ok(error instanceof AssayError);
    assert.match(error.message, /pair 2 takes up to \d+ bytes, and a message holds \d+/);
    return true;
  });
});

test("an aborted upload ends with the signal's reason", async (t) => {
  const { client } = await serve(t);
  const controller = new AbortController();
  async function* slow(): AsyncGenerator<PairInput> {
    yield* somePairs(4);
    controller.abort(new Error("no more"));
    await sleep(60_000, undefined, { ref: false });
  }
  const { signal } = controller;
  await assert.rejects(client.uploadPairs(slow(), { ...QUICK, signal }), { message: "no more" });
});

test("an audit is waited for, through failures, and tells how far it is", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.states.push(operation("scoring", 1), operation("scoring", 1), operation("testing", 0));
  server.shelf.states.push(operation("writing", 0, AUDIT));
  server.shelf.lookFailures.push(...Array.from({ length: 6 }, () => richStatus(status.UNAVAILABLE, "loading", { reason: "LOADING", retrySeconds: 0.01 }))); // prettier-ignore
  const seen: OperationProgress[] = [];
  const options = { views: [View.GLOBAL], nuisances: [Nuisance.LENGTH], maxTFlips: 0, seed: 7 };
  const run = await client.audit("datasets/one", options, { displayName: "mine" });
  const audit = await run.wait({ onProgress: (progress) => void seen.push(progress) });
  assert.equal(audit.views[0]?.findingsRaw, 9);
  assert.equal(audit.views[0]?.note, "As told.");
  assert.deepEqual(seen.map(({ phase, pairsDone }) => [phase, pairsDone]), [["waiting", 0], ["scoring", 1], ["testing", 0], ["writing", 0]]); // prettier-ignore
  const [request] = server.shelf.created;
  assert.equal(request?.displayName, "mine");
  assert.equal(request?.options?.maxTFlips, 0, "0 is not unset");
  assert.equal(request?.options?.tau, undefined);
  assert.match(request?.requestId ?? "", /^[\w-]{36}$/);
  server.shelf.states.push(operation("writing", 0, AUDIT));
  assert.equal((await (await client.resumeAudit(run.name)).wait()).name, "audits/one");
});

test("a failed audit says why, an aborted wait leaves it running, and cancel asks the server", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.states.push(operation("scoring", 1));
  const run = await client.audit("datasets/one");
  const reason = new Error("enough");
  await assert.rejects(run.wait({ signal: AbortSignal.any([abortAfter(30, reason)]) }), (error) => error === reason);
  assert.deepEqual(server.shelf.stopped, []);
  await run.cancel();
  assert.deepEqual(server.shelf.stopped, ["operations/one"]);
  const failure = richMessage(status.CANCELLED, "it was cancelled", { reason: "CANCELLED" });
  server.shelf.states.splice(0, 1, operation("scoring", 1, undefined, failure));
  await assert.rejects(run.wait(), { name: "AssayError", code: status.CANCELLED, reason: "CANCELLED" });
});

test("hypotheses come page by page, and what is decided of them is recorded", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.hypotheses = ids(5).map((id) => Hypothesis.fromPartial({ name: `audits/one/hypotheses/${id}` }));
  const found = await collect(client.hypotheses("audits/one", "finding = true", "rank"));
  assert.deepEqual(found.map(({ name }) => name.split("/").at(-1)), ids(5)); // prettier-ignore
  const decision = await client.decide(found[0]!.name, Decision_Mode.EXPLAIN_AWAY, { strength: 0.5, note: "why" });
  assert.equal(decision.strength, 0.5);
  assert.equal(server.shelf.decisions[0]?.mode, Decision_Mode.EXPLAIN_AWAY);
});

test("a hypothesis whose evidence is over gRPC's 4 MiB is read, and one over the client's own limit is not", async (t) => {
  const { server, client } = await serve(t);
  const pair = { id: "p", chosen: "w".repeat(200_000), rejected: "x" };
  const supporting = Array.from({ length: 50 }, (_, row) => ({ row, pair }));
  server.shelf.hypotheses = [Hypothesis.fromPartial({ name: "audits/one/hypotheses/h", supporting })];
  assert.equal((await client.hypothesis("audits/one/hypotheses/h")).supporting.length, 50);
  const small = new Client({ address: server.address, maxReceiveBytes: 1 << 20 });
  t.after(() => small.close());
  await assert.rejects(small.hypothesis("audits/one/hypotheses/h"), { code: status.RESOURCE_EXHAUSTED });
  assert.throws(() => new Client({ maxReceiveBytes: 0 }), RangeError);
});

test("an export's chunks in order make the file", async (t) => {
  const { server, client } = await serve(t);
  server.shelf.file = Buffer.from("<!doctype html><title>report</title>");
  const chunks = await collect(client.exportAudit("audits/one"));
  assert.equal(Buffer.concat(chunks).toString(), server.shelf.file.toString());
});

/** Pairs, and an error once the server has stored them. */
async function* torn(server: TestServer, count: number): AsyncGenerator<PairInput> {
  yield* somePairs(count);
  while (server.shelf.uploads.get("up")?.flat().length !== count) await sleep(5);
  throw new Error("enough");
}

function abortAfter(milliseconds: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), milliseconds).unref();
  return controller.signal;
}
