/**
 * What goes in and what comes out: pairs and responses as a caller holds them, and one outcome for each.
 *
 * A prompt says which form it has. Turns go through the subject's chat template; `{ text }` is read as it is. A bare
 * string is refused by the types, because nothing in it tells the two apart.
 */

import { AssayError } from "./errors.js";
import type { Message, Pair, PromptedResponse } from "./gen/assay/v1/pair.js";
import type { PairResult, PairScore, ResponseResult, ResponseScore } from "./gen/assay/v1/scoring.js";

/** Chat turns, rendered through the subject's chat template, or raw text, read as it is. */
export type Prompt = readonly Message[] | { readonly text: string };

/** Two responses to one prompt, of which the first was preferred. */
export interface PairInput {
  /** Echoed in the outcome. Default: "". */
  readonly id?: string;
  readonly prompt: Prompt;
  readonly chosen: string;
  readonly rejected: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** One response to one prompt. */
export interface ResponseInput {
  /** Echoed in the outcome. Default: "". */
  readonly id?: string;
  readonly prompt: Prompt;
  readonly response: string;
}

/** A score, or why there is none. A bad item fails alone. */
export type Outcome<Score> = { readonly index: number; readonly id: string } & (
  { readonly score: Score; readonly error?: never } | { readonly score?: never; readonly error: AssayError }
);

/** The message of a pair. */
export function toPair(input: PairInput): Pair {
  const { id = "", prompt, chosen, rejected, metadata = {} } = input;
  return { id, prompt: toPrompt(prompt), chosen, rejected, metadata: { ...metadata } };
}

/** The message of a response. */
export function toPromptedResponse(input: ResponseInput): PromptedResponse {
  const { id = "", prompt, response } = input;
  return { id, prompt: toPrompt(prompt), response };
}

/** The outcome of the item at `index` of the input. */
export function toOutcome(result: PairResult, index: number): Outcome<PairScore>;
export function toOutcome(result: ResponseResult, index: number): Outcome<ResponseScore>;
export function toOutcome(result: PairResult | ResponseResult, index: number): Outcome<PairScore | ResponseScore> {
  const { id, outcome } = result;
  switch (outcome?.$case) {
    case "score":
      return { index, id, score: outcome.value };
    case "error":
      return { index, id, error: AssayError.fromStatus(outcome.value) };
    default:
      return { index, id, error: new AssayError(2, "the result holds neither a score nor an error") };
  }
}

/**
 * An upper bound of a pair's encoded size in bytes, without encoding it: every string costs at most a tag and a
 * five-byte length beside its text, every nested message the same, and a metadata entry all three.
 */
export function wireBytes(pair: Pair): number {
  const field = (text: string): number => Buffer.byteLength(text) + 6;
  let bytes = 6 + field(pair.id) + field(pair.chosen) + field(pair.rejected);
  if (pair.prompt?.$case === "text") bytes += field(pair.prompt.value);
  if (pair.prompt?.$case === "conversation") {
    bytes += 6;
    for (const { role, content } of pair.prompt.value.messages) bytes += 6 + field(role) + field(content);
  }
  for (const [key, value] of Object.entries(pair.metadata)) bytes += 6 + field(key) + field(value);
  return bytes;
}

function toPrompt(prompt: Prompt): Pair["prompt"] {
  return "text" in prompt
    ? { $case: "text", value: prompt.text }
    : { $case: "conversation", value: { messages: [...prompt] } };
}
