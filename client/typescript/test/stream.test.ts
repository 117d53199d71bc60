/** Streaming: order, packing, back-pressure, resumption, and every way of leaving. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { AssayError, type PairInput } from "../src/index.js";
import { collect, richStatus, serve, somePairs, TestServer } from "./support.js";

const QUICK = { initialBackoffMs: 5, maxBackoffMs: 20 };

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${i}`);
}

test("outcomes come in the order of the input, one for each pair, over many messages", async (t) => {
  const { server, client } = await serve(t);
  const outcomes = await collect(client.score(somePairs(100), { topK: 3 }));
  assert.deepEqual(
    outcomes.map(({ id }) => id),
    ids(100),
  );
  assert.deepEqual(
    outcomes.map(({ index }) => index),
    ids(100).map(Number),
  );
  assert.deepEqual(
    outcomes.map(({ score }) => score?.tokens?.chosen),
    somePairs(100).map(({ chosen }) => chosen.length),
  );
  assert.equal(server.streams.length, 1);
  assert.equal(server.streams[0]?.topK, 3);
  assert.deepEqual(
    server.batches.map(({ sequence }) => sequence),
    server.batches.map((_, i) => i),
  );
});

test("a source without pairs gives no outcome and no error", async (t) => {
  const { client } = await serve(t);
  assert.deepEqual(await collect(client.score([])), []);
});

test("messages hold no more pairs than the server accepts", async (t) => {
  const { server, client } = await serve(t, { maxPairsPerMessage: 8 });
  await collect(client.score(somePairs(20), {}, { pairsPerMessage: 100 }));
  assert.deepEqual(
    server.batches.map((batch) => batch.ids.length),
    [8, 8, 4],
  );
});

test("messages hold no more bytes than the server accepts", async (t) => {
  const { server, client } = await serve(t, { maxMessageBytes: 5000 });
  const pairs = somePairs(9).map((pair) => ({ ...pair, chosen: "é".repeat(700) }));
  const outcomes = await collect(client.score(pairs));
  assert.equal(outcomes.length, 9);
  assert.deepEqual(
    server.batches.map((batch) => batch.ids.length),
    [3, 3, 3],
  );
});

test("a pair that no message can hold fails in its place, with both numbers, and the rest is scored", async (t) => {
  const { server, client } = await serve(t, { maxMessageBytes: 1000 });
  const pairs = somePairs(6).map((pair, i) => ([0, 3, 5].includes(i) ? { ...pair, chosen: "x".repeat(2000) } : pair));
  const outcomes = await collect(client.score(pairs, {}, { maxPairsInFlight: 1 }));
  assert.deepEqual(
    outcomes.map(({ id }) => id),
    ids(6),
  );
  assert.deepEqual(
    outcomes.map(({ error }) => error?.reason),
    ["PAIR_TOO_LARGE", undefined, undefined, "PAIR_TOO_LARGE", undefined, "PAIR_TOO_LARGE"],
  );
  assert.equal(outcomes[3]?.error?.details["max_message_bytes"], "1000");
  assert.deepEqual(
    server.batches.flatMap((batch) => batch.ids),
    ["1", "2", "4"],
  );
});

test("a bad pair fails in its place with the server's reason", async (t) => {
  const { client } = await serve(t);
  const pairs = somePairs(5).map((pair, i) => (i === 2 ? { ...pair, chosen: "" } : pair));
  const outcomes = await collect(client.score(pairs));
  assert.deepEqual(
    outcomes.map(({ error }) => error?.reason),
    [undefined, undefined, "EMPTY_RESPONSE", undefined, undefined],
  );
  assert.equal(outcomes[2]?.error?.code, status.INVALID_ARGUMENT);
  assert.deepEqual(outcomes[2]?.error?.violations, [{ field: "chosen", description: "is wrong" }]);
});

test("the source is read no further than the pairs in flight while the server is silent", async (t) => {
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const { client } = await serve(t, { maxPairsPerMessage: 4, onBatch: () => gate });
  let read = 0;
  function* source(): Generator<PairInput> {
    for (const pair of somePairs(500)) {
      read += 1;
      yield pair;
    }
  }
  const outcomes = collect(client.score(source(), {}, { maxPairsInFlight: 12 }));
  await sleep(200);
  // Three messages in flight, and the one pair that showed the third to be full is not read before there is room.
  assert.equal(read, 12);
  release();
  assert.equal((await outcomes).length, 500);
});

test("a caller that stops taking outcomes stops the reading of the source", async (t) => {
  const { client } = await serve(t, { maxPairsPerMessage: 4 });
  let read = 0;
  function* source(): Generator<PairInput> {
    for (const pair of somePairs(100_000)) {
      read += 1;
      yield pair;
    }
  }
  const outcomes = client.score(source(), {}, { maxPairsInFlight: 8 });
  await outcomes.next();
  await sleep(300);
  const before = read;
  await sleep(200);
  assert.equal(read, before);
  assert.ok(read <= 16, `${read} pairs read for one outcome taken`);
  await outcomes.return();
});

test("pairs of a slow source are sent before a message is full", async (t) => {
  const { client } = await serve(t);
  async function* source(): AsyncGenerator<PairInput> {
    yield* somePairs(3);
    await sleep(60_000, undefined, { ref: false });
  }
  const outcomes = client.score(source(), {}, { lingerMs: 5 });
  const first = [await outcomes.next(), await outcomes.next(), await outcomes.next()];
  assert.deepEqual(
    first.map(({ value }) => value && value.id),
    ids(3),
  );
  void outcomes.return();
});

test("a broken connection resumes after the last answer, and sends nothing twice that was answered", async (t) => {
  const { server, client } = await serve(t, {
    maxPairsPerMessage: 4,
    onBatch: ({ connection, sequence }) =>
      connection < 3 && sequence === 2 + 3 * connection ? { code: status.UNAVAILABLE, details: "going" } : undefined,
  });
  const outcomes = await collect(client.score(somePairs(60), { topK: 5 }, QUICK));
  assert.deepEqual(
    outcomes.map(({ id }) => id),
    ids(60),
  );
  assert.equal(server.streams.length, 4);
  assert.ok(
    server.streams.every((options) => options?.topK === 5),
    "every connection starts with the options",
  );
  for (const connection of [1, 2, 3]) {
    const [first] = server.batches.filter((batch) => batch.connection === connection);
    assert.equal(first?.sequence, 2 + 3 * (connection - 1));
  }
});

test("a stream that the server ends early, without an error, is resumed like a broken one", async (t) => {
  const { server, client } = await serve(t, {
    maxPairsPerMessage: 4,
    onBatch: ({ connection, sequence }) => (connection === 0 && sequence === 2 ? { code: status.OK } : undefined),
  });
  const outcomes = await collect(client.score(somePairs(30), {}, QUICK));
  assert.deepEqual(
    outcomes.map(({ id }) => id),
    ids(30),
  );
  assert.equal(server.streams.length, 2);
});

test("a killed server that comes back at its address is found again", async (t) => {
  const { server, client } = await serve(t, {
    maxPairsPerMessage: 4,
    onBatch: async ({ sequence }) => {
      if (sequence !== 5) return;
      server.server.forceShutdown();
      await sleep(100);
      const again = new TestServer({ maxPairsPerMessage: 4 });
      t.after(() => again.server.forceShutdown());
      await again.listen(Number(server.address.split(":")[1]));
    },
  });
  const outcomes = await collect(client.score(somePairs(80), {}, { maxBackoffMs: 500 }));
  assert.deepEqual(
    outcomes.map(({ id }) => id),
    ids(80),
  );
});

test("whatever messages break, each pair is answered once and in order", async (t) => {
  for (let seed = 1; seed <= 25; seed += 1) {
    const random = generator(seed);
    const { client } = await serve(t, {
      maxPairsPerMessage: 1 + Math.floor(random() * 6),
      onBatch: async () => {
        if (random() < 0.5) await sleep(Math.floor(random() * 3));
        return random() < 0.12 ? { code: status.UNAVAILABLE, details: "going" } : undefined;
      },
    });
    const count = Math.floor(random() * 80);
    const behaviour = {
      maxPairsInFlight: 1 + Math.floor(random() * 20),
      attempts: 50,
      initialBackoffMs: 1,
      maxBackoffMs: 2,
    };
    const outcomes = await collect(client.score(somePairs(count), {}, behaviour));
    assert.deepEqual(
      outcomes.map(({ id }) => id),
      ids(count),
      `seed ${seed}`,
    );
  }
});

test("a server that never answers is given up with its last error, and progress starts the count again", async (t) => {
  const { server, client } = await serve(t, {
    maxPairsPerMessage: 1,
    onBatch: ({ connection, sequence }) =>
      sequence === 3 || connection === sequence
        ? richStatus(status.UNAVAILABLE, `down ${connection}`, { reason: "DRAINING" })
        : undefined,
  });
  const seen: string[] = [];
  await assert.rejects(
    async () => {
      for await (const { id } of client.score(somePairs(9), {}, { ...QUICK, attempts: 3 })) seen.push(id);
    },
    (error: unknown) => error instanceof AssayError && error.reason === "DRAINING" && error.message.endsWith("down 5"),
  );
  assert.deepEqual(seen, ids(3));
  // Connections 0, 1, 2 fail at batches 0, 1, 2; the third one left, 3, gets as far as batch 3, then 4 and 5 do not.
  assert.equal(server.streams.length, 6);
});

test("an error that asks for patience is waited for as long as it says", async (t) => {
  const { server, client } = await serve(t, {
    onBatch: ({ connection }) =>
      connection === 0
        ? richStatus(status.RESOURCE_EXHAUSTED, "busy", { reason: "TOO_MANY_TOKENS", retrySeconds: 0.3 })
        : undefined,
  });
  const start = performance.now();
  assert.equal((await collect(client.score(somePairs(3), {}, QUICK))).length, 3);
  assert.ok(performance.now() - start >= 295);
  assert.equal(server.streams.length, 2);
});

test("an error that no repetition mends ends the stream at once", async (t) => {
  const { server, client } = await serve(t, {
    onBatch: () =>
      richStatus(status.INVALID_ARGUMENT, "top_k", { reason: "BAD_OPTIONS", field: "options.score.top_k" }),
  });
  await assert.rejects(collect(client.score(somePairs(3), {}, QUICK)), { name: "AssayError", reason: "BAD_OPTIONS" });
  assert.equal(server.streams.length, 1);
});

test("answers that do not fit what was sent are refused, not passed on", async (t) => {
  const wrong: ((response: { sequence: number; results: unknown[] }) => object)[] = [
    (response) => ({ ...response, sequence: response.sequence + 1 }),
    (response) => ({ ...response, results: response.results.slice(1) }),
  ];
  for (const answer of wrong) {
    const { client } = await serve(t, { answer: (response) => answer(response) as typeof response });
    await assert.rejects(collect(client.score(somePairs(3), {}, QUICK)), { reason: "BAD_ANSWER" });
  }
});

test("leaving the loop cancels the call and ends the source", async (t) => {
  const { server, client } = await serve(t);
  let ended = false;
  async function* source(): AsyncGenerator<PairInput> {
    try {
      for (;;) yield* somePairs(10);
    } finally {
      ended = true;
    }
  }
  for await (const { id } of client.score(source())) if (id === "5") break;
  await sleep(100);
  assert.equal(server.cancelled, 1);
  assert.equal(ended, true);
});

test("an error of the source comes after the outcomes of all that it gave before", async (t) => {
  const { client } = await serve(t, { maxPairsPerMessage: 4 });
  const broken = new Error("disk full");
  async function* source(): AsyncGenerator<PairInput> {
    yield* somePairs(10);
    throw broken;
  }
  const seen: string[] = [];
  await assert.rejects(
    async () => {
      for await (const { id } of client.score(source())) seen.push(id);
    },
    (error) => error === broken,
  );
  assert.deepEqual(seen, ids(10));
});

test("an abort ends a silent stream with its reason", async (t) => {
  const { server, client } = await serve(t, { onBatch: () => sleep(60_000, undefined, { ref: false }) });
  const controller = new AbortController();
  const reason = new Error("enough");
  const outcomes = collect(client.score(somePairs(3), {}, { signal: controller.signal }));
  await sleep(100);
  controller.abort(reason);
  await assert.rejects(outcomes, (error) => error === reason);
  await sleep(50);
  assert.equal(server.cancelled, 1);
});

test("an abort ends the wait before a reconnection", async (t) => {
  const { client } = await serve(t, { onBatch: () => ({ code: status.UNAVAILABLE, details: "down" }) });
  const controller = new AbortController();
  const patient = { initialBackoffMs: 60_000, maxBackoffMs: 60_000, signal: controller.signal };
  const outcomes = collect(client.score(somePairs(3), {}, patient));
  await sleep(100);
  controller.abort(new Error("enough"));
  await assert.rejects(outcomes, { message: "enough" });
});

test("bounds that allow nothing are refused by name", async (t) => {
  const { client } = await serve(t);
  await assert.rejects(collect(client.score(somePairs(1), {}, { maxPairsInFlight: 0 })), {
    name: "RangeError",
    message: /maxPairsInFlight is 0/,
  });
});

/** A small seeded generator of numbers in [0, 1) (mulberry32), so that a failing run can be repeated. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
