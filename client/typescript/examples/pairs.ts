/** Preference pairs from a file, for the examples: one JSON object a line, in TRL's format with an explicit prompt. */

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Message, PairInput, Prompt } from "../src/index.js";

/** Reads the file line by line, as fast as pairs are asked for. */
export async function* readPairs(
  path: string,
  as: "chat" | "text",
  onError: (message: string) => void,
): AsyncGenerator<PairInput> {
  let number = 0;
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    number += 1;
    if (line.trim() === "") continue;
    try {
      yield toPair(JSON.parse(line), `line ${number}`, as);
    } catch (error) {
      onError(`line ${number}: ${String(error)}`);
    }
  }
}

function toPair(row: unknown, fallbackId: string, as: "chat" | "text"): PairInput {
  const { id = fallbackId, prompt, chosen, rejected, metadata: nested, ...rest } = row as Record<string, unknown>;
  const metadata = Object.fromEntries(
    Object.entries({ ...rest, ...(nested as object | undefined) }).flatMap(([key, value]) =>
      typeof value === "string" ? [[key, value]] : [],
    ),
  );
  const sides = { chosen: toResponse(chosen), rejected: toResponse(rejected) };
  return { id: String(id), prompt: toPrompt(prompt, as), ...sides, metadata };
}

function toPrompt(prompt: unknown, as: "chat" | "text"): Prompt {
  if (isTurns(prompt)) return prompt.map(({ role, content }) => ({ role, content }));
  if (typeof prompt !== "string") throw new TypeError("prompt is neither a string nor a list of turns");
  return as === "text" ? { text: prompt } : [{ role: "user", content: prompt }];
}

function toResponse(response: unknown): string {
  if (typeof response === "string") return response;
  const [turn, ...more] = isTurns(response) ? response : [];
  if (turn?.role === "assistant" && more.length === 0) return turn.content;
  throw new TypeError("a response is neither a string nor a list of one assistant turn");
}

function isTurns(value: unknown): value is Message[] {
  const isTurn = (turn: unknown): boolean =>
    typeof turn === "object" &&
    turn !== null &&
    "role" in turn &&
    "content" in turn &&
    typeof turn.role === "string" &&
    typeof turn.content === "string";
  return Array.isArray(value) && value.every(isTurn);
}
