// Requests to the server that sent this page, and its problem documents (RFC 9457) as errors that can be shown.

/** An answer that is not a result; `title` and `detail` are written for the reader. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(title);
    this.status = status;
    this.title = title;
    this.detail = detail;
  }

  /** The cursor belongs to a release or a query that is gone: start again from the first page. */
  get cursorExpired() {
    return this.status === 409 || this.status === 410;
  }
}

const PAGE_SIZE = 24;

/** One page of results, each with its `search_id`. `upload` is the picture's Blob when a part refers to it. */
export async function search({ parts, filters, cursor, upload }, signal) {
  const query = JSON.stringify({ parts, filters, k: PAGE_SIZE, cursor: cursor ?? null });
  if (!upload) {
    const headers = { "Content-Type": "application/json" };
    return marked(await request("/v1/search", { method: "POST", headers, body: query, signal }));
  }
  const form = new FormData();
  form.set("query", query);
  form.set("picture", upload, "picture");
  return marked(await request("/v1/search", { method: "POST", body: form, signal }));
}

/** Items most like this one, each with its `search_id`. */
export const similar = async (id, k, signal) => marked(await request(`${itemAddress(id)}/similar?k=${k}`, { signal }));

/** Everything known about an item. */
export async function item(id, signal) {
  const answer = await request(itemAddress(id), { signal });
  return { item_id: id, ...(answer.product ?? answer) };
}

/** Values to filter by, with counts. */
export const facets = () => request("/v1/facets", {});

/** Address of an item's picture: the one the server names when it is its own, else the usual place. */
export function pictureAddress(id, named) {
  const usual = `${itemAddress(id)}/picture`;
  if (!named) return usual;
  try {
    const url = new URL(named, location.origin);
    return url.origin === location.origin ? url.href : usual;
  } catch {
    return usual;
  }
}

/** Pages of several answers are shown together, so each hit says which answer it is of. */
const marked = (answer) => ({ ...answer, hits: answer.hits.map((hit) => ({ ...hit, search_id: answer.search_id })) });

const itemAddress = (id) => `/v1/items/${encodeURIComponent(id)}`;

async function request(address, options) {
  let response;
  try {
    response = await fetch(address, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached", "Check that it runs and that you are connected, then try again.");
  }
  if (!response.ok) throw await problemOf(response);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(response.status, "The answer cannot be read", "The server did not send JSON. Try again.");
  }
}

async function problemOf(response) {
  let document = {};
  try {
    document = (await response.json()) ?? {};
  } catch {
    // no problem document (a proxy's page, say): the status has to do
  }
  const title = typeof document.title === "string" ? document.title : `The server answered ${response.status}`;
  const detail = typeof document.detail === "string" ? document.detail : response.statusText;
  return new Problem(response.status, title, detail);
}
