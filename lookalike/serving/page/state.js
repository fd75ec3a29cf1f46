// What is searched for, as one plain object that is written into the address: a link, the Back button and a reload all
// give the same search. A picture itself never enters the address, only its name in this tab (see pictures.js).

export const EMPTY = Object.freeze({
  q: "", picture: null, crop: null, likes: [], unlikes: [], mix: 50,
  brand: [], category: [], licence: [], atLeast: null, atMost: null, inStock: false, item: null,
});

/** Filter fields that take a list of values, in the order shown. */
export const LISTS = Object.freeze(["brand", "category", "licence"]);

/** Weight of "less like this" beside a positive part of weight 1. */
const PUSH_AWAY = -0.5;
const MOST_ITEMS = 7; // per sign; with words and picture they stay below the 16 parts that a request may have

/** State from the query string of an address; what it does not understand is left out. */
export function readState(search) {
  const address = new URLSearchParams(search);
  const state = { ...EMPTY };
  state.q = (address.get("q") ?? "").slice(0, 2000);
  state.picture = address.get("picture");
  state.crop = state.picture ? readCrop(address.get("crop")) : null;
  state.likes = address.getAll("like").slice(0, MOST_ITEMS);
  state.unlikes = address.getAll("unlike").slice(0, MOST_ITEMS);
  state.mix = Math.min(100, Math.max(0, number(address.get("mix")) ?? EMPTY.mix));
  for (const field of LISTS) state[field] = [...new Set(address.getAll(field))];
  state.atLeast = number(address.get("min"));
  state.atMost = number(address.get("max"));
  state.inStock = address.get("stock") === "1";
  state.item = address.get("item");
  return state;
}

/** The address of a state, "/" when there is nothing to say. */
export function addressOf(state) {
  const address = new URLSearchParams();
  if (state.q) address.set("q", state.q);
  if (state.picture) address.set("picture", state.picture);
  if (state.picture && state.crop) {
    address.set("crop", [state.crop.left, state.crop.top, state.crop.width, state.crop.height].join(","));
  }
  for (const id of state.likes) address.append("like", id);
  for (const id of state.unlikes) address.append("unlike", id);
  if (state.mix !== EMPTY.mix) address.set("mix", state.mix);
  for (const field of LISTS) for (const value of state[field]) address.append(field, value);
  if (state.atLeast !== null) address.set("min", state.atLeast);
  if (state.atMost !== null) address.set("max", state.atMost);
  if (state.inStock) address.set("stock", "1");
  if (state.item) address.set("item", state.item);
  const text = address.toString();
  return text ? `/?${text}` : "/";
}

/** Two states with the same key have the same results. */
export const searchKey = (state) => addressOf({ ...state, item: null });

/** True when both words and a picture (or an item) pull, so that a mix makes sense. */
export const isMixed = (state) => Boolean(state.q.trim() && (state.picture || state.likes.length));

/**
 * Parts of the request in order, each with the label under which its score is shown.
 * The slider shares the weight between words and pictures; a part with weight 0 is left out, as the API demands.
 */
export function partsOf(state) {
  const share = isMixed(state) ? state.mix / 100 : null;
  const parts = [];
  const text = state.q.trim();
  if (text) parts.push({ label: "words", part: { text, weight: share === null ? 1 : round(1 - share) } });
  const weight = share === null ? 1 : round(share);
  if (state.picture) {
    const crop = state.crop ? { crop: state.crop } : {};
    parts.push({ label: state.crop ? "crop" : "picture", part: { upload: 0, ...crop, weight } });
  }
  for (const item_id of state.likes) parts.push({ label: "like", part: { item_id, weight } });
  const positive = parts.filter(({ part }) => part.weight > 0);
  if (!positive.length) return [];
  const away = state.unlikes.map((item_id) => ({ label: "unlike", part: { item_id, weight: PUSH_AWAY } }));
  return [...positive, ...away];
}

/** Filters of the request. */
export function filtersOf(state) {
  const filters = LISTS.filter((field) => state[field].length).map((field) => ({ field, any_of: state[field] }));
  if (state.atLeast !== null || state.atMost !== null) {
    const price = { field: "price" };
    if (state.atLeast !== null) price.at_least = state.atLeast;
    if (state.atMost !== null) price.at_most = state.atMost;
    filters.push(price);
  }
  if (state.inStock) filters.push({ field: "stock", at_least: 1 });
  return filters;
}

/** The state without any filter. */
export const withoutFilters = (state) => ({
  ...state, brand: [], category: [], licence: [], atLeast: null, atMost: null, inStock: false,
});

/** A search for this item alone; filters stay. */
export const moreLike = (state, id) => ({
  ...state, q: "", picture: null, crop: null, likes: [id], unlikes: [], mix: EMPTY.mix, item: null,
});

/** The same search, pushed away from this item. */
export const lessLike = (state, id) => ({
  ...state,
  likes: state.likes.filter((other) => other !== id),
  unlikes: [...state.unlikes.filter((other) => other !== id), id].slice(-MOST_ITEMS),
});

function number(text) {
  if (text === null || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

function readCrop(text) {
  const values = (text ?? "").split(",").map(Number);
  if (values.length !== 4 || values.some((value) => !Number.isFinite(value))) return null;
  const [left, top, width, height] = values;
  const inside = left >= 0 && top >= 0 && width > 0 && height > 0 && left + width <= 1.000001 && top + height <= 1.000001;
  return inside ? { left, top, width, height } : null;
}

const round = (value) => Math.round(value * 1000) / 1000;
