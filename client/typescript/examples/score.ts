/**
 * Scores a file of preference pairs and prints one JSON object for each, in order, with every number in full.
 *
 *     node dist/examples/score.js pairs.jsonl --address 127.0.0.1:50151 --top-k 8
 *
 * A line of the file is a pair in TRL's preference format with an explicit prompt: `prompt`, `chosen` and `rejected`,
 * each a string or a list of `{role, content}` turns, and optionally `id`. A prompt that is a string is one user turn, or
 * raw text with `--as text`. A line that cannot be read is named on standard error, with its number, and does not end the
 * run.
 */

import { parseArgs } from "node:util";
import { Client, type FeatureRanking, type PooledFeatures } from "../src/index.js";
import { readPairs } from "./pairs.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    address: { type: "string", default: "127.0.0.1:50151" },
    as: { type: "string", default: "chat" },
    "include-features": { type: "boolean", default: false },
    "pairs-per-message": { type: "string", default: "32" },
    token: { type: "string" },
    "top-k": { type: "string", default: "16" },
  },
});
const [file] = positionals;
if (file === undefined || positionals.length > 1 || !["chat", "text"].includes(values.as)) {
  console.error(
    "usage: score FILE [--address HOST:PORT] [--as chat|text] [--top-k N] [--include-features] [--token T]",
  );
  process.exit(2);
}

const client = new Client({ address: values.address, ...(values.token === undefined ? {} : { token: values.token }) });
const options = { topK: Number(values["top-k"]), includeFeatures: values["include-features"] };
const stream = { pairsPerMessage: Number(values["pairs-per-message"]) };
let failed = 0;
const pairs = readPairs(file, values.as === "text" ? "text" : "chat", (message) => {
  failed += 1;
  console.error(message);
});
try {
  for await (const { id, score, error } of client.score(pairs, options, stream)) {
    if (error !== undefined) {
      failed += 1;
      print({ id, error: { code: error.code, reason: error.reason, message: error.message, details: error.details } });
      continue;
    }
    print({
      id,
      tokens: score.tokens,
      by_max: ranking(score.byMax),
      by_freq: ranking(score.byFreq),
      ...(values["include-features"]
        ? { chosen_features: pooled(score.chosenFeatures), rejected_features: pooled(score.rejectedFeatures) }
        : {}),
      timings: score.timings,
    });
  }
} finally {
  client.close();
}
process.exitCode = failed === 0 ? 0 : 1;

/** The ranking as rows of feature, chosen, rejected. */
function ranking(value: FeatureRanking | undefined): (number | undefined)[][] {
  return (value?.features ?? []).map((feature, i) => [feature, value?.chosen[i], value?.rejected[i]]);
}

function pooled(value: PooledFeatures | undefined): Pick<PooledFeatures, "indices" | "max" | "freq"> | undefined {
  return value && { indices: value.indices, max: value.max, freq: value.freq };
}

function print(value: object): void {
  console.log(JSON.stringify(value));
}
