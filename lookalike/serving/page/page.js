// The page's one loop: a control changes the state, the state goes into the address, everything shown follows from the
// state. Nothing else writes to the address, and no part of the page knows another.

import { facets } from "./api.js";
import { detailDialog } from "./detail.js";
import { byId, count, debounce, el, words } from "./dom.js";
import { buildFilters, chips, syncFilters } from "./filters.js";
import { pictureIn, takePicture } from "./pictures.js";
import { queryPanel } from "./query.js";
import { Results, say } from "./results.js";
import { addressOf, lessLike, moreLike, readState, withoutFilters } from "./state.js";

const TYPING_PAUSE = 280;
const LOST = "The picture of this search was not kept: pictures stay on the device and in the tab that opened them.";
const BROWSED = 12;

let state = readState(location.search);
let release = null;
let unread = false; // words typed that the state does not have yet

const on = {
  open: (id) => openItem(id),
  close: () => closeItem(),
  more: (id) => update(moreLike(state, id), { replace: state.item !== null }),
  less: (id) => update(lessLike(state, id)),
  clearFilters: () => update(withoutFilters(state)),
  released: (version) => follow(version),
};
const addressOfItem = (id) => addressOf({ ...state, item: id });
const results = new Results({ on, addressOfItem });
const dialog = detailDialog({ on, addressOfItem });
const panel = queryPanel({ onChange: (patch, how) => update(patch, how), onLost: () => say(LOST) });

/** Change the state, the address and all that is shown. `replace` keeps the Back button where it was. */
function update(patch, { replace = false, mark = null } = {}) {
  const before = addressOf(state);
  const typed = unread ? { q: byId("q").value.trim() } : {}; // whatever else changes, typed words are not lost
  unread = false;
  state = { ...state, ...typed, ...patch };
  const address = addressOf(state);
  if (address !== before) history[replace ? "replaceState" : "pushState"](mark, "", address);
  say("");
  render();
}

function render() {
  if (document.activeElement !== byId("q") || byId("q").value.trim() !== state.q) byId("q").value = state.q;
  document.title = state.q ? `${state.q} – Lookalike` : "Lookalike";
  syncFilters(byId("filter-form"), state);
  renderChips();
  panel.sync(state);
  dialog.show(state.item);
  results.show(state);
}

function renderChips() {
  const list = byId("chips");
  const hadFocus = list.contains(document.activeElement);
  const entries = chips(state, (patch) => update(patch), on.clearFilters);
  list.replaceChildren(...entries);
  byId("filters-toggle").textContent = entries.length ? "Filters (on)" : "Filters";
  if (hadFocus) (list.querySelector("button") ?? byId("results")).focus({ preventScroll: true });
}

// The dialog is one entry in the history, so that Back closes it; going from item to item stays in that entry.
function openItem(id) {
  update({ item: id }, { replace: state.item !== null, mark: { overResults: state.item === null || history.state?.overResults } });
}

function closeItem() {
  const focusBack = state.item;
  if (!state.item) return;
  if (history.state?.overResults) history.back();
  else update({ item: null }, { replace: true });
  const card = [...document.querySelectorAll(".card")].find((entry) => entry.dataset.item === focusBack);
  card?.querySelector(".open").focus({ preventScroll: true });
}

async function loadFacets() {
  try {
    const found = await facets();
    buildFilters(byId("filter-form"), found, (patch) => update(patch));
    syncFilters(byId("filter-form"), state);
    browse(found.category ?? []);
  } catch (error) {
    byId("filter-form").replaceChildren(el("p", { className: "quiet" }, `Filters are not available: ${error.detail ?? error.message}`));
  }
}

/** The largest categories as links of the start page. */
function browse(categories) {
  const largest = [...categories].sort((a, b) => b.count - a.count).slice(0, BROWSED);
  byId("categories").replaceChildren(...largest.map(({ value, count: items }) => {
    const name = words(value);
    const href = addressOf({ ...readState(""), q: name, category: [value] });
    return el("li", {}, el("a", { href }, name, " ", el("span", { className: "count" }, count(items))));
  }));
  byId("browse").hidden = !largest.length;
}

/** Another release answers than before: counts and remembered pages belong to the old one. */
function follow(version) {
  if (release !== null && release !== version) {
    results.forget();
    loadFacets();
  }
  release = version;
}

async function searchByPicture(file) {
  if (!file) return;
  try {
    const picture = await takePicture(file);
    update({ picture, crop: null, likes: [], unlikes: [], item: null });
    if (byId("detail").open) byId("detail").close();
  } catch (error) {
    say(error.message);
  }
}

function wireSearch() {
  const field = byId("q");
  const typed = debounce((how) => {
    unread = false;
    if (field.value.trim() !== state.q) update({ q: field.value.trim() }, how);
  }, TYPING_PAUSE);
  let editing = false; // one edit of the words is one entry in the history, however many pauses it has
  field.addEventListener("focus", () => { editing = false; });
  field.addEventListener("input", () => {
    unread = true;
    typed({ replace: editing });
    editing = true;
  });
  field.addEventListener("change", () => typed.now({ replace: editing })); // leaving the field ends the pause
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    typed.now({ replace: editing });
    editing = false;
    results.show(state, { again: !byId("problem").hidden });
  });
  field.addEventListener("keydown", (event) => {
    const first = event.key === "ArrowDown" && document.querySelector(".card .open");
    if (!first) return;
    event.preventDefault();
    first.focus(); // past the filters, straight into the results
  });
  for (const list of ["examples", "categories"]) byId(list).addEventListener("click", followHere);
}

/** Follow a link of the start page without loading the page again. */
function followHere(event) {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  update(readState(new URL(link.href).search));
  byId("q").focus();
}

function wirePictures() {
  const file = byId("file");
  byId("pick").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    searchByPicture(file.files[0]);
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    const picture = pictureIn(event.clipboardData);
    if (!picture || event.clipboardData.getData("text/plain")) return; // words with a picture of them are words
    event.preventDefault();
    searchByPicture(picture);
  });
  wireDrop();
}

function wireDrop() {
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    byId("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) byId("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    byId("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    const picture = pictureIn(event.dataTransfer);
    if (picture) searchByPicture(picture);
    else say("That is not a picture.");
  });
}

function wireKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !byId("detail").open && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("q").focus();
      byId("q").select();
    }
    if (event.key === "Escape" && !byId("detail").open) toggleFilters(false);
  });
  byId("filters-done").addEventListener("click", () => {
    toggleFilters(false);
    window.scrollTo({ top: 0 });
  });
  byId("filters-toggle").addEventListener("click", () => toggleFilters(!byId("filters").classList.contains("open")));
}

/** On a narrow screen the filters are folded away; on a wide one this changes nothing. */
function toggleFilters(open) {
  const had = byId("filters").contains(document.activeElement);
  byId("filters").classList.toggle("open", open);
  byId("filters-toggle").setAttribute("aria-expanded", String(open));
  if (!open && had && getComputedStyle(byId("filters-toggle")).display !== "none") byId("filters-toggle").focus();
}

window.addEventListener("popstate", () => {
  state = readState(location.search);
  unread = false;
  say("");
  render();
});
wireSearch();
wirePictures();
wireKeys();
loadFacets();
render();
