/** The example as its reader runs it: a process of its own, a file, and JSON lines out. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { serve } from "./support.js";

const SCRIPT = fileURLToPath(new URL("../examples/score.js", import.meta.url));
const run = promisify(execFile);

test("the example prints one object for each readable line, with numbers in full", async (t) => {
  const { server } = await serve(t);
  const folder = await mkdtemp(join(tmpdir(), "assay-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "pairs.jsonl");
  const turns = (role: string, content: string): object[] => [{ role, content }];
  const lines = [
    { id: "first", prompt: turns("user", "hi"), chosen: turns("assistant", "hello"), rejected: "no" },
    { id: "bad", prompt: "hi", chosen: "", rejected: "no" },
    { prompt: "hi", chosen: "hello there", rejected: "no" },
  ].map((line) => JSON.stringify(line));
  await writeFile(file, `${lines[0]}\n{broken\n\n${lines[1]}\n${lines[2]}\n`);

  const failed = await run(process.execPath, [SCRIPT, file, "--address", server.address, "--top-k", "1"]).then(
    () => assert.fail("a run with failed pairs exits with 1"),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );

  assert.equal(failed.code, 1);
  const printed = failed.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    printed.map(({ id }) => id),
    ["first", "bad", "line 5"],
  );
  assert.deepEqual(printed[0].by_max, [[7, 0.10000000149011612, 0.3333333432674408]]);
  assert.deepEqual(printed[0].tokens.chosen, 5);
  assert.equal(printed[1].error.reason, "EMPTY_RESPONSE");
  assert.match(failed.stderr, /^line 2: SyntaxError/);
});
