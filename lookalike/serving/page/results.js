// Running a search and showing its pages. A newer search stops the older one, so that no late answer can replace the
// right one; what was shown stays until the next answer is there, so that nothing flickers.

import { search } from "./api.js";
import { card } from "./cards.js";
import { byId, count, el } from "./dom.js";
import { rovingGrid } from "./grid.js";
import { findPicture } from "./pictures.js";
import { remember, titleOf } from "./query.js";
import { filtersOf, partsOf, searchKey } from "./state.js";

const PATIENCE = 180; // milliseconds before the page says that it waits
const REMEMBERED = 12; // searches that Back and Forward show at once
const EXPIRED = "The catalogue has a new release, so the results start again from the first page.";

/** The results part of the page. `on` has open, more, less (ids), clearFilters() and released(version). */
export class Results {
  #on; #addressOfItem; #grid; #running = null; #shown = null; #past = new Map();

  constructor({ on, addressOfItem }) {
    this.#on = on;
    this.#addressOfItem = addressOfItem;
    this.#grid = rovingGrid(byId("grid"));
    byId("more").addEventListener("click", () => this.#more());
  }

  /** Show the results of `state`; nothing happens when they are shown already. `again` asks the server anyway. */
  async show(state, { again = false } = {}) {
    const key = searchKey(state);
    if (!again && this.#running?.key === key) return;
    if (!again && this.#shown?.key === key && !this.#running) return;
    this.#running?.control.abort();
    this.#running = null;
    const past = again ? null : this.#past.get(key);
    if (past) this.#replace(past);
    else if (partsOf(state).length) await this.#first(state, key);
    else this.#welcome(key);
  }

  async #first(state, key, note = "") {
    const answer = await this.#ask(state, key, null);
    if (!answer) return;
    this.#replace({ key, state, hits: answer.hits, answer });
    if (note) say(note);
    window.scrollTo({ top: 0 });
  }

  async #more() {
    const page = this.#shown;
    if (!page?.answer?.next_cursor || this.#running) return;
    const answer = await this.#ask(page.state, page.key, page.answer.next_cursor);
    if (!answer) return;
    const have = new Set(page.hits.map((hit) => hit.item_id));
    const fresh = answer.hits.filter((hit) => !have.has(hit.item_id));
    page.hits = [...page.hits, ...fresh];
    page.answer = answer;
    const entries = this.#cards(fresh, page.state);
    const byKeyboard = document.activeElement === byId("more");
    byId("grid").append(...entries);
    this.#grid.refresh();
    this.#report(page);
    if (byKeyboard && entries[0]) this.#grid.focusCard(entries[0]);
  }

  /** Ask for a page; null when it was stopped or failed (the failure is then on the page). */
  async #ask(state, key, cursor) {
    const control = new AbortController();
    this.#running = { key, control };
    const waiting = setTimeout(() => busy(true), PATIENCE);
    try {
      const picture = state.picture ? await findPicture(state.picture) : null;
      const parts = partsOf(picture ? state : { ...state, picture: null }).map(({ part }) => part);
      if (control.signal.aborted) return null;
      if (!parts.length) return void this.#welcome(key);
      const answer = await search({ parts, filters: filtersOf(state), cursor, upload: picture?.blob }, control.signal);
      return control.signal.aborted ? null : answer;
    } catch (error) {
      if (error.name === "AbortError" || control.signal.aborted) return null;
      this.#running = null;
      if (cursor && error.cursorExpired) await this.#first(state, key, EXPIRED);
      else this.#fail(error, state, cursor);
      return null;
    } finally {
      clearTimeout(waiting);
      if (this.#running?.control === control) this.#running = null;
      if (!this.#running) busy(false);
    }
  }

  #replace(page) {
    const grid = byId("grid");
    const hadFocus = grid.contains(document.activeElement);
    for (const hit of page.hits) remember(hit.item_id, hit.product);
    grid.replaceChildren(...this.#cards(page.hits, page.state));
    this.#grid.refresh();
    this.#shown = page;
    this.#keep(page);
    byId("welcome").hidden = true;
    byId("grid-heading").hidden = false;
    byId("problem").hidden = true;
    this.#report(page);
    if (hadFocus) grid.querySelector(".open")?.focus({ preventScroll: true });
  }

  #cards(hits, state) {
    const labels = partsOf(state).map(({ label, part }) => ({
      short: label, long: part.item_id ? `${label} ${titleOf(part.item_id)}` : label, away: part.weight < 0,
    }));
    for (const hit of hits) remember(hit.item_id, hit.product);
    return hits.map((hit) => card(hit, { labels, addressOfItem: this.#addressOfItem, on: this.#on }));
  }

  /** What was found, by which release, in what time. */
  #report({ hits, answer }) {
    const { matching, release, plan, took_ms: took } = answer;
    const some = `Best ${count(hits.length)} of ${count(matching)} items`;
    byId("summary").replaceChildren(hits.length ? some : "Nothing passes these filters");
    if (!hits.length) byId("summary").append(" ", this.#clearButton());
    byId("answered").textContent = `Release ${release} · ${milliseconds(took.total)}`;
    const stages = Object.entries(took).filter(([name]) => name !== "total");
    const text = stages.map(([name, time]) => `${name} ${milliseconds(time)}`).join(", ");
    byId("timing").textContent = `Release ${release} answered in ${milliseconds(took.total)} (${text}), plan: ${plan}.`;
    byId("more").hidden = !answer.next_cursor;
    this.#on.released(release);
  }

  #clearButton() {
    const button = el("button", { type: "button" }, "Clear all filters");
    button.addEventListener("click", () => this.#on.clearFilters());
    return button;
  }

  #fail(error, state, cursor) {
    const again = el("button", { type: "button" }, "Try again");
    again.addEventListener("click", () => {
      byId("problem").hidden = true;
      if (cursor) this.#more();
      else this.show(state, { again: true });
    });
    const title = error.title ?? "The page has a fault";
    byId("problem").replaceChildren(el("b", {}, title), el("p", {}, error.detail ?? error.message ?? ""), again);
    byId("problem").hidden = false;
    if (!cursor) this.#empty();
  }

  #welcome(key) {
    this.#empty();
    this.#shown = { key, hits: [] };
    byId("problem").hidden = true;
    byId("welcome").hidden = false;
    busy(false);
  }

  #empty() {
    this.#shown = null;
    byId("grid").replaceChildren();
    byId("grid-heading").hidden = true;
    byId("welcome").hidden = true;
    byId("more").hidden = true;
    for (const id of ["summary", "answered", "timing"]) byId(id).textContent = "";
  }

  #keep(page) {
    this.#past.delete(page.key);
    this.#past.set(page.key, page);
    if (this.#past.size > REMEMBERED) this.#past.delete(this.#past.keys().next().value);
  }

  /** Forget what Back would show, because another release answers now. */
  forget() {
    const current = this.#shown;
    this.#past.clear();
    if (current?.answer) this.#keep(current);
  }
}

/** A remark above the results; empty text takes it away. */
export function say(text) {
  byId("note").textContent = text;
  byId("note").hidden = !text;
}

function busy(waiting) {
  byId("progress").hidden = !waiting;
  byId("results").setAttribute("aria-busy", String(waiting));
}

const milliseconds = (time) => (typeof time === "number" ? `${time < 10 ? time.toFixed(1) : Math.round(time)} ms` : "? ms");
