/**
 * Audits a file of preference pairs, prints one JSON object for each finding, and writes the report.
 *
 *     node dist/examples/audit.js pairs.jsonl --address 127.0.0.1:50151 --metadata topic --report report.html
 *
 * The file is read as the scoring example reads it, each line's other texts as metadata. Progress goes to standard error.
 * The upload is named for the file's content, so that the same command goes on where it stopped; `--decide keep` records that
 * for the first finding.
 */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { Client, DecisionMode } from "../src/index.js";
import { readPairs } from "./pairs.js";

const MODES: Record<string, DecisionMode> = {
  "explain-away": DecisionMode.EXPLAIN_AWAY,
  amplify: DecisionMode.AMPLIFY,
  keep: DecisionMode.KEEP,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    address: { type: "string", default: "127.0.0.1:50151" },
    as: { type: "string", default: "chat" },
    decide: { type: "string" },
    metadata: { type: "string", multiple: true, default: [] },
    report: { type: "string" },
    seed: { type: "string", default: "0" },
  },
});
const [file] = positionals;
if (file === undefined || positionals.length > 1 || (values.decide !== undefined && !(values.decide in MODES))) {
  console.error(
    "usage: audit FILE [--address HOST:PORT] [--as chat|text] [--metadata KEY] [--report FILE] [--seed N] [--decide MODE]",
  );
  process.exit(2);
}

const as = values.as === "text" ? "text" : "chat";
const client = new Client({ address: values.address });
try {
  const pairs = readPairs(file, as, (message) => console.error(message));
  const requestId = `node-${await digest(file)}-${as}`;
  const dataset = await client.uploadPairs(pairs, { requestId, displayName: file.split("/").at(-1) ?? "" });
  console.error(`${dataset.name}: ${dataset.pairs} pairs`);

  const options = { metadataKeys: values.metadata, seed: Number(values.seed) };
  const run = await client.audit(dataset.name, options, { requestId: `${requestId}-${values.seed}` });
  const audit = await run.wait({
    onProgress: ({ phase, pairsDone, pairsTotal }) => console.error(`${phase} ${pairsDone}/${pairsTotal}`),
  });

  for (const { view, note } of audit.views) if (note !== "") console.error(`${view}: ${note}`);

  let first: string | undefined;
  for await (const hypothesis of client.hypotheses(audit.name, "finding = true")) {
    const { name, view, concept, condition, raw, controlled } = hypothesis;
    first ??= name;
    console.log(
      JSON.stringify({ name, view, concept: concept?.name, condition: condition?.name ?? null, raw, controlled }),
    );
  }
  if (values.report !== undefined) await writeFile(values.report, client.exportAudit(audit.name));
  if (values.decide !== undefined && first !== undefined) {
    const decision = await client.decide(first, MODES[values.decide]!, { note: "from the example" });
    console.error(`recorded ${decision.name}`);
  }
} finally {
  client.close();
}

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const block of createReadStream(path)) hash.update(block as Buffer);
  return hash.digest("hex").slice(0, 24);
}
