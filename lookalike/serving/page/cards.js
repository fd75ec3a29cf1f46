// A found product as a card: picture, price, score by part, licence and author, and the two ways on from it.

import { pictureAddress } from "./api.js";
import { el, money, outLink, words } from "./dom.js";
import { clicked } from "./feedback.js";

/** A list entry. `labels` names the parts of the query in order; `on` has open(id), more(id), less(id). */
export function card(hit, { labels, addressOfItem, on }) {
  const { item_id: id, product } = hit;
  const entry = el(
    "li",
    { className: "card" },
    openLink(hit, { addressOfItem, on }, { draggable: false, tabIndex: -1 }),
    el("p", { className: "offer" }, el("span", { className: "brand" }, product.brand ?? ""), ...offer(product)),
    scores(hit, labels),
    actions(hit, on),
    credit(product),
  );
  entry.dataset.item = id;
  return entry;
}

/** Picture and title of a hit as the link that opens it. */
export function openLink(hit, { addressOfItem, on }, attributes = {}) {
  const { item_id: id, product } = hit;
  const name = el("span", { className: "name" }, product.title ?? id);
  const open = el("a", { className: "open", href: addressOfItem(id), ...attributes }, tile(id, product), name);
  open.addEventListener("click", (event) => {
    clicked(hit);
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window, as with any link
    event.preventDefault();
    on.open(id);
  });
  open.addEventListener("auxclick", (event) => {
    if (event.button === 1) clicked(hit); // the middle button: a new tab
  });
  return open;
}

/** The picture on its white tile. The title beside it says what it shows, so it has no text of its own. */
export function tile(id, product, eager = false) {
  const address = pictureAddress(id, product.picture_url);
  const picture = el("img", { alt: "", src: address, loading: eager ? "eager" : "lazy", decoding: "async", draggable: false });
  picture.addEventListener("error", () => picture.replaceWith(el("span", { className: "lost" }, "no picture")), { once: true });
  return el("span", { className: "tile" }, picture);
}

/** Price and stock, marked where the catalogue says that they were generated. */
export function offer(product) {
  const made = new Set(product.synthetic ?? []);
  const parts = [];
  if (typeof product.price === "number") parts.push(el("span", { className: "price" }, money(product.price, product.currency)));
  if (typeof product.stock === "number") {
    const text = product.stock > 0 ? `${product.stock} in stock` : "sold out";
    parts.push(el("span", { className: product.stock > 0 ? "stock" : "stock none" }, text));
  }
  const named = ["price", "stock"].filter((column) => made.has(column));
  if (named.length && parts.length) {
    const title = `Made-up ${named.join(" and ")}: no source has real values`;
    parts.push(el("span", { className: "synthetic", title }, named.length === 2 ? "synthetic" : `synthetic ${named[0]}`));
  }
  return parts;
}

/** Licence and author with their links; shown wherever the picture is shown. */
export function credit(product) {
  const line = el("p", { className: "credit" }, outLink(product.licence ?? "licence unknown", product.licence_url));
  if (product.author) line.append(" · ", outLink(product.author, product.author_url));
  return line;
}

/** The whole score, and under it one bar per part when the query has several. */
function scores(hit, labels) {
  const box = el("div", { className: "scores" });
  box.append(bar("match", hit.score, "Cosine to the whole query"));
  const parts = hit.part_scores ?? [];
  if (parts.length < 2) return box;
  parts.forEach((score, order) => {
    const label = labels[order] ?? { short: `part ${order + 1}`, long: "" };
    const row = bar(label.short, score, `Cosine to ${label.long || label.short}`);
    row.classList.add("part");
    if (label.away) row.classList.add("away");
    box.append(row);
  });
  return box;
}

function bar(name, score, title) {
  const fill = el("i", {});
  fill.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  return el(
    "p",
    { className: "score", title },
    el("span", { className: "label" }, name),
    el("span", { className: "track", "aria-hidden": "true" }, fill),
    el("span", { className: "value" }, score.toFixed(2)),
  );
}

function actions(hit, on) {
  const { item_id: id, product } = hit;
  const title = product.title ?? id;
  const more = el("button", { type: "button", className: "more-like", "aria-label": `More like this: ${title}` }, "More like this");
  const less = el("button", { type: "button", className: "less-like", "aria-label": `Less like this: ${title}` }, "Less");
  less.title = "Push the results away from this item";
  more.addEventListener("click", () => {
    clicked(hit);
    on.more(id);
  });
  less.addEventListener("click", () => on.less(id));
  return el("p", { className: "actions" }, more, less);
}

/** "food drink › food fruit" */
export const categoryText = (path) => [].concat(path ?? []).map(words).join(" › ");
