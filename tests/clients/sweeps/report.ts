/** What a client is asked to call, and what it has got. */

import { openAsBlob, readFileSync } from "node:fs";

export interface Call {
  operation: string;
  function: string;
  method: "GET" | "POST";
  path: string;
  query: Record<string, unknown>;
  json: Record<string, unknown> | null;
  photographs: number;
  code: string | null;
  is_json: boolean;
}

export const url = process.env.SERVICE_URL!;
export const calls: Call[] = JSON.parse(readFileSync("calls.json", "utf8"));
export const photographs = await Promise.all(["one.jpg", "other.jpg"].map((name) => openAsBlob(name)));

/** Make every call, and print what each gave: an object as it is, a file in base64. */
export async function report(make: (call: Call) => Promise<unknown>): Promise<void> {
  const found: Record<string, unknown> = {};
  for (const call of calls) {
    const data = await make(call);
    found[call.operation] =
      data instanceof Blob ? Buffer.from(await data.arrayBuffer()).toString("base64") : data;
  }
  console.log(JSON.stringify(found));
}
