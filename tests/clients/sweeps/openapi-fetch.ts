/** Every operation by openapi-fetch, on the types of openapi-typescript. */

import createClient from "openapi-fetch";
import type { paths } from "./car-vae-paths";
import { photographs, report, url } from "./report";

type Operation = (path: string, options: object) => Promise<{ data?: unknown; error?: unknown }>;

const client = createClient<paths>({ baseUrl: url });
const form = (): FormData => {
  const fields = new FormData();
  for (const photograph of photographs) fields.append("image", photograph);
  return fields;
};
await report(async (call) => {
  const body = call.has_photographs ? { body: {}, bodySerializer: form } : call.json && { body: call.json };
  const operation = client[call.method] as unknown as Operation;
  const parseAs = call.is_json ? "json" : "blob";
  const { data, error } = await operation(call.path, { params: { query: call.query }, parseAs, ...body });
  if (error) throw new Error(JSON.stringify(error));
  return data;
});
