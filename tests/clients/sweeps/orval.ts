/** Every operation by a client of orval. */

import axios from "axios";
import * as functions from "./car-vae-axios";
import { photographs, report, url } from "./report";

type Operation = (...parameters: unknown[]) => Promise<{ data: unknown }>;

Object.assign(axios.defaults, { baseURL: url, adapter: "fetch", paramsSerializer: { indexes: null } });
await report(async (call) => {
  const body = call.photographs ? { image: photographs.slice(0, call.photographs) } : call.json;
  const operation = functions[call.function as keyof typeof functions] as Operation;
  const ofPath = call.code ? [call.code] : [];
  const headers = call.photographs ? { "Content-Type": "multipart/form-data" } : {};
  const { data } = await operation(...ofPath, ...(body ? [body] : []), call.query, { headers });
  return data;
});
