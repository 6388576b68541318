// Requests to this server, with the API key that was typed into the page. It is kept until the tab is closed.
const KEY = "carla-key";
const PATIENCE_MS = 10000;

let key = read();

function read() {
  try { return sessionStorage.getItem(KEY) ?? ""; } catch { return ""; } // storage may be forbidden
}

export const hasKey = () => key !== "";

export function useKey(text) {
  key = text;
  try { sessionStorage.setItem(KEY, text); } catch { /* it is kept while the page is open */ }
}

// Why a request has no answer that can be used, in words; status 0 where there is none at all.
export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// A response, whatever its status.
export async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS), ...options, headers });
  } catch (error) {
    throw new Refusal(0, error.name === "TimeoutError" ? `nothing came within ${PATIENCE_MS / 1000} s` : "the connection failed");
  }
}

export async function get(path) {
  const response = await send(path);
  if (response.ok) return response;
  const said = await response.json().catch(() => undefined);
  throw new Refusal(response.status, said?.error?.message ?? `the server answered with status ${response.status}`);
}
