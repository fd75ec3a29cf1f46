// One item in a dialog: its picture, all that the catalogue says about it, and the items most like it.

import { item, similar } from "./api.js";
import { categoryText, credit, offer, openLink, tile } from "./cards.js";
import { byId, el } from "./dom.js";
import { remember } from "./query.js";

const SIMILAR = 12;

/** Wire the dialog. `on` has open(id), more(id), close(); `addressOfItem(id)` is the link of an item. */
export function detailDialog({ on, addressOfItem }) {
  const dialog = byId("detail");
  let shown = null;
  let running = null;
  dialog.addEventListener("close", () => {
    running?.abort();
    const wasShown = shown !== null;
    shown = null;
    if (wasShown) on.close();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  function show(id) {
    if (id === shown) return;
    running?.abort();
    shown = id;
    if (id === null) {
      if (dialog.open) dialog.close();
      return;
    }
    running = new AbortController();
    const { signal } = running;
    fill(dialog, id, { on, addressOfItem, signal }).catch((error) => {
      if (error.name !== "AbortError") report(dialog, error);
    });
  }
  return { show };
}

async function fill(dialog, id, { on, addressOfItem, signal }) {
  const product = await item(id, signal);
  remember(id, product);
  const list = el("ul", { className: "similar", "aria-label": "Similar items" });
  dialog.replaceChildren(head(dialog, product.title ?? id), body(id, product, on), el("h3", {}, "Similar items"), list);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  byId("detail-title").focus();
  const { hits } = await similar(id, SIMILAR, signal);
  for (const hit of hits) remember(hit.item_id, hit.product);
  list.replaceChildren(...hits.map((hit) => similarEntry(hit, { on, addressOfItem })));
}

function report(dialog, error) {
  const text = el("p", { className: "problem", role: "alert" }, el("b", {}, error.title ?? "Something went wrong"), " ", error.detail ?? "");
  if (!dialog.open) {
    dialog.replaceChildren(head(dialog, "This item cannot be shown"));
    dialog.showModal();
  }
  dialog.append(text);
}

function head(dialog, title) {
  const close = el("button", { type: "button", className: "plain close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => dialog.close());
  return el("header", {}, el("h2", { id: "detail-title", tabIndex: -1 }, title), close);
}

function body(id, product, on) {
  const more = el("button", { type: "button", className: "primary" }, "More like this");
  more.addEventListener("click", () => on.more(id));
  return el(
    "div",
    { className: "detail-body" },
    el("div", {}, tile(id, product, true), credit(product), el("p", { className: "actions" }, more)),
    el("dl", {}, ...facts(id, product)),
  );
}

function facts(id, product) {
  const rows = [];
  const add = (name, ...value) => rows.push(el("dt", {}, name), el("dd", {}, ...value));
  const price = offer(product);
  if (price.length) add("Offer", ...price.flatMap((part) => [part, " "]));
  if (product.brand) add("Brand", product.brand);
  if (product.category_path?.length) add("Category", categoryText(product.category_path));
  if (product.tags?.length) add("Tags", tagList(product.tags));
  for (const [name, value] of Object.entries(product.attributes ?? {})) add(name, value);
  const languages = Object.entries(product.keywords ?? {}).filter(([, list]) => list.length);
  if (languages.length) add("Keywords", keywordTable(languages));
  add("Item", el("code", {}, id));
  return rows;
}

const tagList = (tags) => el("ul", { className: "tags" }, ...tags.map((tag) => el("li", {}, tag)));

/** Keywords by language, each marked with its language so that a screen reader pronounces it. */
function keywordTable(languages) {
  const names = languageNames();
  const rows = languages.map(([language, list]) => el(
    "p", {}, el("span", { className: "language" }, names(language)), el("span", { lang: language, dir: "auto" }, list.join(", ")),
  ));
  if (rows.length <= 4) return el("div", { className: "keywords" }, ...rows);
  const summary = el("summary", {}, `${rows.length} languages`);
  return el("details", { className: "keywords" }, summary, ...rows);
}

function languageNames() {
  try {
    const names = new Intl.DisplayNames(undefined, { type: "language" });
    return (code) => {
      try {
        return names.of(code);
      } catch {
        return code;
      }
    };
  } catch {
    return (code) => code;
  }
}

function similarEntry(hit, { on, addressOfItem }) {
  const { product, score } = hit;
  const line = el("p", { className: "offer" }, el("span", { className: "brand" }, product.brand ?? ""), el("span", {}, score.toFixed(2)));
  return el("li", {}, openLink(hit, { addressOfItem, on }), line, credit(product));
}
