/** Every operation by openapi-fetch, on the types of openapi-typescript. */

import createClient from "openapi-fetch";
import type { paths } from "./car-vae-paths";
import { photographs, report, url } from "./report";

type Operation = (path: string, options: object) => Promise<{ data?: unknown; error?: unknown }>;

const client = createClient<paths>({ baseUrl: url });
const form = (count: number): FormData => {
  const fields = new FormData();
  for (const photograph of photographs.slice(0, count)) fields.append("image", photograph);
  return fields;
};
await report(async (call) => {
  const body = call.photographs
    ? { body: {}, bodySerializer: () => form(call.photographs) }
    : call.json && { body: call.json };
  const operation = client[call.method] as unknown as Operation;
  const parseAs = call.is_json ? "json" : "blob";
  const params = { path: { code: call.code }, query: call.query };
  const { data, error } = await operation(call.path, { params, parseAs, ...body });
  if (error) throw new Error(JSON.stringify(error));
  return data;
});
