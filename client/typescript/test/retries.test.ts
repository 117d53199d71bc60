/** Retries of single calls: every unary method of the contract has them, seen on the wire. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { makeGenericClientConstructor, Server, ServerCredentials, status, type ServiceDefinition } from "@grpc/grpc-js";
import { SERVICES, Session, UNARY_METHODS } from "../src/session.js";

/** A session whose channel the test may use. */
class Open extends Session {
  get open() {
    return this.channel;
  }
}

test("plans and concepts are among the unary methods, and no stream is", () => {
  const names = new Set(UNARY_METHODS.map(({ method }) => method));
  for (const method of ["CreatePlan", "GetIntervention", "ScoreRewards", "CreateConcept", "GetOperation"]) {
    assert.ok(names.has(method), method);
  }
  for (const method of [
    "StreamPairs",
    "UploadPairs",
    "ExportAudit",
    "StreamOffsets",
    "StreamDataPlan",
    "ExportDataPlan",
  ]) {
    assert.ok(!names.has(method), method);
  }
});

test("a call that finds the server unavailable is made again, whichever it is", async (t) => {
  const calls = new Map<string, number>();
  const server = new Server();
  const definition: Record<string, ServiceDefinition[string]> = {};
  const handlers: Record<string, (call: unknown, answer: (error: object | null, value?: Buffer) => void) => void> = {};
  for (const service of SERVICES) {
    for (const method of Object.values(service)) {
      if (method.requestStream || method.responseStream) continue;
      const pass = (value: Buffer) => value;
      definition[method.path] = {
        path: method.path,
        requestStream: false,
        responseStream: false,
        requestSerialize: pass,
        requestDeserialize: pass,
        responseSerialize: pass,
        responseDeserialize: pass,
      };
      handlers[method.path] = (_, answer) => {
        const count = (calls.get(method.path) ?? 0) + 1;
        calls.set(method.path, count);
        if (count === 1) answer({ code: status.UNAVAILABLE, details: "not now" });
        else answer(null, Buffer.alloc(0));
      };
    }
  }
  server.addService(definition, handlers as never);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.after(() => server.forceShutdown());
  const session = new Open({ address: `127.0.0.1:${port}` });
  t.after(() => session.close());
  const Generic = makeGenericClientConstructor({}, "generic");
  const client = new Generic(`127.0.0.1:${port}`, null as never, { channelOverride: session.open });
  await Promise.all(
    UNARY_METHODS.map(
      ({ service, method }) =>
        new Promise<void>((resolve, reject) => {
          const pass = (value: Buffer) => value;
          client.makeUnaryRequest(`/${service}/${method}`, pass, pass, Buffer.alloc(0), (error) =>
            error === null ? resolve() : reject(new Error(`${service}/${method}: ${error.message}`)),
          );
        }),
    ),
  );
  assert.equal(calls.size, UNARY_METHODS.length);
  assert.deepEqual([...new Set(calls.values())], [2]);
});
