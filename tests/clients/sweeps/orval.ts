/** Every operation by a client of orval. */

import axios from "axios";
import * as functions from "./car-vae-axios";
import { photographs, report, url } from "./report";

type Operation = (...parameters: unknown[]) => Promise<{ data: unknown }>;

Object.assign(axios.defaults, { baseURL: url, adapter: "fetch", paramsSerializer: { indexes: null } });
await report(async (call) => {
  const body = call.has_photographs ? { image: photographs } : call.json;
  const operation = functions[call.function as keyof typeof functions] as Operation;
  const headers = call.has_photographs ? { "Content-Type": "multipart/form-data" } : {};
  const { data } = await operation(...(body ? [body] : []), call.query, { headers });
  return data;
});
