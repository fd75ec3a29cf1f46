// The filters at the side, made once from the facets the server counts, and the chips of those that are on.

import { count, el, money, words } from "./dom.js";
import { LISTS } from "./state.js";

const NAMES = { brand: "Brand", category: "Category", licence: "Licence" };
const LONG_LIST = 10; // page.css hides what comes after the eighth value

/** Build the form from /v1/facets. `onChange(patch)` gets the part of the state that a control changed. */
export function buildFilters(form, facets, onChange) {
  const lists = LISTS.filter((field) => facets[field]?.length).map((field) => list(field, facets[field]));
  form.replaceChildren(priceFields(facets.price), stockField(), ...lists);
  form.onsubmit = (event) => event.preventDefault();
  form.onchange = (event) => {
    const patch = patchOf(form, event.target);
    if (patch) onChange(patch);
  };
}

/** Show in the controls what the state says. */
export function syncFilters(form, state) {
  for (const box of form.querySelectorAll("input[type=checkbox]")) {
    box.checked = box.name === "stock" ? state.inStock : state[box.name].includes(box.value);
  }
  for (const [name, value] of [["min", state.atLeast], ["max", state.atMost]]) {
    const input = form.elements.namedItem(name);
    if (input && input !== document.activeElement) input.value = value ?? "";
  }
}

/** One removable chip per active filter; `onChange(patch)` as above, `onClear()` for all of them. */
export function chips(state, onChange, onClear) {
  const entries = [];
  for (const field of LISTS) {
    for (const value of state[field]) {
      const rest = state[field].filter((other) => other !== value);
      entries.push(chip(`${NAMES[field]}: ${shown(field, value)}`, () => onChange({ [field]: rest })));
    }
  }
  if (state.atLeast !== null || state.atMost !== null) {
    entries.push(chip(priceText(state), () => onChange({ atLeast: null, atMost: null })));
  }
  if (state.inStock) entries.push(chip("In stock", () => onChange({ inStock: false })));
  if (entries.length > 1) {
    const all = el("button", { type: "button", className: "plain" }, "Clear all filters");
    all.addEventListener("click", onClear);
    entries.push(el("li", {}, all));
  }
  return entries;
}

/** A removable chip with optional content before its text. */
export function chip(text, onRemove, ...before) {
  const cross = el("span", { className: "cross", "aria-hidden": "true" }, "×");
  const button = el("button", { type: "button", className: "chip", "aria-label": `Remove ${text}` }, ...before, text, cross);
  button.addEventListener("click", onRemove);
  return el("li", {}, button);
}

const shown = (field, value) => (field === "category" ? words(value) : value);

function priceText({ atLeast, atMost }) {
  if (atLeast === null) return `Price up to ${atMost}`;
  return atMost === null ? `Price from ${atLeast}` : `Price ${atLeast} to ${atMost}`;
}

function patchOf(form, control) {
  const { name } = control;
  if (name === "stock") return { inStock: control.checked };
  if (LISTS.includes(name)) {
    const boxes = [...form.querySelectorAll(`input[name="${name}"]:checked`)];
    return { [name]: boxes.map((box) => box.value) };
  }
  if (name === "min" || name === "max") {
    const value = control.value.trim() === "" ? null : Number(control.value);
    if (value !== null && !(value >= 0)) return null;
    return name === "min" ? { atLeast: value } : { atMost: value };
  }
  return null;
}

function list(field, values) {
  const rows = values.map(({ value, count: items }) => {
    const box = el("input", { type: "checkbox", name: field, value });
    const name = el("span", { className: "value" }, shown(field, value));
    return el("label", { className: "check" }, box, name, el("span", { className: "count" }, count(items)));
  });
  const name = NAMES[field];
  const box = el("div", { className: "values" }, ...rows);
  if (values.length <= LONG_LIST) box.classList.add("all");
  const group = el("fieldset", {}, el("legend", {}, name), box);
  if (values.length > LONG_LIST) {
    box.before(finder(name, box, rows));
    group.append(unfolder(name, box, values.length));
  }
  return group;
}

/** A long list is folded, so that neither the eye nor the Tab key has to walk through it. */
function unfolder(name, box, total) {
  const all = `Show all ${count(total)}`;
  const label = (text) => `${text}: ${name.toLowerCase()}`;
  const button = el("button", { type: "button", className: "plain unfold", "aria-expanded": "false", "aria-label": label(all) }, all);
  button.addEventListener("click", () => {
    const open = box.classList.toggle("all");
    button.textContent = open ? "Show fewer" : all;
    button.setAttribute("aria-expanded", String(open));
    button.setAttribute("aria-label", label(button.textContent));
  });
  return button;
}

function finder(name, box, rows) {
  const label = `Find in ${name.toLowerCase()}`;
  const input = el("input", { type: "search", className: "finder", placeholder: label, "aria-label": label, autocomplete: "off" });
  input.addEventListener("input", () => {
    const sought = input.value.trim().toLowerCase();
    box.classList.toggle("finding", sought !== "");
    for (const row of rows) row.hidden = sought !== "" && !row.textContent.toLowerCase().includes(sought);
  });
  return input;
}

function priceFields(range) {
  const input = (name, label, hint) => el(
    "label", {}, label,
    el("input", { type: "number", name, min: 0, step: "any", inputMode: "decimal", placeholder: hint }),
  );
  const hint = (value) => (typeof value === "number" ? money(value, range?.currency) : "");
  return el(
    "fieldset", {}, el("legend", {}, "Price"),
    el("div", { className: "range" }, input("min", "from", hint(range?.min)), input("max", "to", hint(range?.max))),
  );
}

function stockField() {
  const box = el("input", { type: "checkbox", name: "stock", value: "1" });
  return el(
    "fieldset", {}, el("legend", {}, "Stock"),
    el("label", { className: "check" }, box, el("span", { className: "value" }, "In stock only")),
  );
}
