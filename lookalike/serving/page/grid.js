// The keyboard in the grid of results: one Tab stop, arrow keys between the cards, Tab into the buttons of the card
// that has the focus. Two hundred results are then as near as one.

/** Make `list` a grid with a roving focus over its `.card` entries; call `refresh()` after adding cards. */
export function rovingGrid(list) {
  const cards = () => [...list.querySelectorAll(".card")];
  const handle = (card) => card.querySelector(".open");

  function activate(card) {
    for (const other of cards()) {
      const stop = other === card ? 0 : -1;
      for (const control of other.querySelectorAll("a, button")) control.tabIndex = stop;
    }
  }

  function refresh() {
    const all = cards();
    const active = all.find((card) => handle(card).tabIndex === 0) ?? all[0];
    if (active) activate(active);
  }

  function focusCard(card) {
    if (!card) return;
    activate(card);
    handle(card).focus();
  }

  list.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) activate(card);
  });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const card = event.target.closest(".card");
    if (!card) return;
    const next = neighbour(cards(), card, event.key);
    if (!next) return;
    event.preventDefault();
    focusCard(next);
  });
  return { refresh, focusCard };
}

function neighbour(all, card, key) {
  const here = all.indexOf(card);
  const columns = columnsOf(all);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  if (!(key in steps)) return null;
  const there = here + steps[key];
  if (there < 0) return null;
  return all[there] ?? (key === "ArrowDown" && rowOf(here, columns) < rowOf(all.length - 1, columns) ? all.at(-1) : null);
}

const rowOf = (place, columns) => Math.floor(place / columns);

function columnsOf(all) {
  const top = all[0].offsetTop;
  const second = all.findIndex((card) => card.offsetTop > top);
  return second === -1 ? all.length : second;
}
