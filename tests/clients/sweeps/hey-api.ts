/** Every operation by a client of @hey-api/openapi-ts. */

import * as sdk from "./car-vae";
import { client } from "./car-vae/client.gen";
import { photographs, report, url } from "./report";

type Operation = (options: object) => Promise<{ data: unknown }>;

client.setConfig({ baseUrl: url });
await report(async (call) => {
  const body = call.photographs ? { image: photographs.slice(0, call.photographs) } : call.json;
  const operation = sdk[call.function as keyof typeof sdk] as unknown as Operation;
  const { data } = await operation({
    path: { code: call.code },
    query: call.query,
    throwOnError: true,
    ...(body && { body }),
  });
  return data;
});
