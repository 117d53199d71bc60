/** Unary calls, errors, and what goes over the wire. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { AssayError, Client } from "../src/index.js";
import { Pair } from "../src/gen/assay/v1/pair.js";
import { toPair, wireBytes } from "../src/items.js";
import { richStatus, serve, somePairs } from "./support.js";

test("the model comes with its limits", async (t) => {
  const { client } = await serve(t, { maxPairsPerMessage: 5 });
  const model = await client.model();
  assert.equal(model.name, "models/default");
  assert.equal(model.limits?.maxPairsPerMessage, 5);
});

test("a unary call scores pairs in order, a bad one in its place", async (t) => {
  const { client } = await serve(t);
  const outcomes = await client.scorePairs(somePairs(3).map((pair, i) => (i === 1 ? { ...pair, chosen: "" } : pair)));
  assert.deepEqual(
    outcomes.map(({ id, error }) => [id, error?.reason]),
    [
      ["0", undefined],
      ["1", "EMPTY_RESPONSE"],
      ["2", undefined],
    ],
  );
});

test("32-bit floats arrive as the doubles that equal them", async (t) => {
  const { client } = await serve(t);
  const [outcome] = await client.scorePairs(somePairs(1));
  assert.equal(outcome?.score?.byMax?.chosen[0], 0.10000000149011612);
  assert.equal(outcome?.score?.byMax?.rejected[0], 0.3333333432674408);
});

test("a refused call keeps the reason, the numbers, the fields and the delay", async (t) => {
  const { client } = await serve(t, {
    onUnary: () =>
      richStatus(status.INVALID_ARGUMENT, "too many", { reason: "TOO_MANY_PAIRS", retrySeconds: 1.5, field: "pairs" }),
  });
  await assert.rejects(client.scorePairs(somePairs(9)), (error: unknown) => {
    assert.ok(error instanceof AssayError);
    assert.equal(error.code, status.INVALID_ARGUMENT);
    assert.equal(error.message, "INVALID_ARGUMENT: too many");
    assert.equal(error.reason, "TOO_MANY_PAIRS");
    assert.deepEqual(error.details, { limit: "8", got: "9" });
    assert.deepEqual(error.violations, [{ field: "pairs", description: "is wrong" }]);
    assert.equal(error.retryAfterSeconds, 1.5);
    return true;
  });
});

test("details that cannot be read do not hide the error", async (t) => {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff, 0xff]));
  const { client } = await serve(t, {
    onUnary: () => ({ code: status.NOT_FOUND, details: "no such model", metadata }),
  });
  await assert.rejects(client.model(), { name: "AssayError", code: status.NOT_FOUND, reason: "" });
});

test("a unary call is sent again while the server is not ready", async (t) => {
  const { server, client } = await serve(t, {
    onUnary: (call) => (call < 3 ? { code: status.UNAVAILABLE, details: "loading" } : undefined),
  });
  assert.equal((await client.model()).name, "models/default");
  assert.equal(server.unaryCalls, 3);
});

test("a unary call that the server refuses is sent once", async (t) => {
  const { server, client } = await serve(t, { onUnary: () => ({ code: status.INVALID_ARGUMENT, details: "no" }) });
  await assert.rejects(client.model(), { code: status.INVALID_ARGUMENT });
  assert.equal(server.unaryCalls, 1);
});

test("a unary call ends at its deadline", async (t) => {
  const { client } = await serve(t, { onUnary: () => sleep(60_000, undefined, { ref: false }) });
  const start = performance.now();
  await assert.rejects(client.model({ timeoutSeconds: 0.2 }), { code: status.DEADLINE_EXCEEDED });
  assert.ok(performance.now() - start < 5000);
});

test("an abort ends a unary call with its reason", async (t) => {
  const { client } = await serve(t, { onUnary: () => sleep(60_000, undefined, { ref: false }) });
  const reason = new Error("enough");
  await assert.rejects(client.model({ signal: abortAfter(50, reason) }), (error) => error === reason);
});

test("an unreachable server is an error that says so", async (t) => {
  const client = new Client({ address: "127.0.0.1:1", channelOptions: { "grpc.enable_retries": 0 } });
  t.after(() => client.close());
  await assert.rejects(client.model(), { name: "AssayError", code: status.UNAVAILABLE, transient: true });
});

test("the token travels with every call", async (t) => {
  const { server, client } = await serve(t, {}, { token: "secret" });
  await client.model();
  assert.deepEqual(server.tokens, ["Bearer secret"]);
});

test("raw text and chat turns are told apart on the wire", () => {
  const rest = { chosen: "yes", rejected: "no" };
  assert.deepEqual(toPair({ prompt: { text: "Once" }, ...rest }).prompt, { $case: "text", value: "Once" });
  const turns = [{ role: "user", content: "Once" }];
  assert.deepEqual(toPair({ prompt: turns, ...rest }).prompt, { $case: "conversation", value: { messages: turns } });
});

test("the size of a pair is never underestimated, and not by much overestimated", () => {
  for (const length of [0, 1, 127, 128, 300, 70_000]) {
    for (const text of ["a", "é", "漢", "😀"]) {
      const long = text.repeat(length);
      const turns = [
        { role: "system", content: long },
        { role: "user", content: "hm" },
      ];
      for (const prompt of [turns, { text: long }]) {
        const pair = toPair({ id: "x", prompt, chosen: long, rejected: "", metadata: { [text]: long } });
        // One more tag and length: as an element of a batch.
        const exact = Pair.encode(pair).finish().length + 6;
        assert.ok(wireBytes(pair) >= exact, `${wireBytes(pair)} < ${exact}`);
        assert.ok(wireBytes(pair) <= exact + 80, `${wireBytes(pair)} > ${exact} + 80`);
      }
    }
  }
});

function abortAfter(milliseconds: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), milliseconds).unref();
  return controller.signal;
}
