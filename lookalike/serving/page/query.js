// The part of the query that is not words: the picture with its crop, the items it is like or unlike, and the mix.

import { item, pictureAddress } from "./api.js";
import { CropEditor } from "./crop.js";
import { byId, debounce, el } from "./dom.js";
import { chip } from "./filters.js";
import { findPicture } from "./pictures.js";
import { isMixed } from "./state.js";

const known = new Map(); // item id -> product, as far as this page has seen it

/** Remember a product, so that its title can be named without asking the server again. */
export const remember = (id, product) => known.set(id, product);

/** The title of an item, or its id while nothing is known of it. */
export const titleOf = (id) => known.get(id)?.title ?? id;

/** Wire the panel. `onChange(patch)` changes the search, `onLost()` says that this tab lacks the named picture. */
export function queryPanel({ onChange, onLost }) {
  const mixSoon = debounce((mix) => onChange({ mix }, { replace: true }), 120);
  const cropSoon = debounce((crop) => onChange({ crop }), 250);
  const editor = new CropEditor({
    area: byId("crop"), canvas: byId("canvas"), frame: byId("crop-box"), onChange: cropSoon,
  });
  byId("crop-reset").addEventListener("click", () => {
    cropSoon.cancel();
    onChange({ crop: null });
  });
  byId("picture-remove").addEventListener("click", () => {
    cropSoon.cancel();
    onChange({ picture: null, crop: null });
    byId("q").focus();
  });
  byId("mix").addEventListener("input", () => {
    sayMix(Number(byId("mix").value));
    mixSoon(Number(byId("mix").value));
  });
  return { sync: (state) => sync(state, editor, onChange, onLost) };
}

async function sync(state, editor, onChange, onLost) {
  byId("query").hidden = !(state.picture || state.likes.length || state.unlikes.length);
  syncItems(state, onChange);
  byId("mix-row").hidden = !isMixed(state);
  byId("mix").value = state.mix;
  sayMix(state.mix);
  byId("crop-reset").disabled = !state.crop;
  byId("picture").hidden = !state.picture;
  if (!state.picture) return;
  const picture = await findPicture(state.picture).catch(() => null);
  if (picture) editor.show(picture.bitmap, state.crop);
  else onLost();
}

function sayMix(mix) {
  const said = `${100 - mix} % words, ${mix} % picture`;
  byId("mix-value").value = said;
  byId("mix").setAttribute("aria-valuetext", said);
}

function syncItems(state, onChange) {
  const entry = (field, id, word) => {
    const picture = el("img", { alt: "", src: pictureAddress(id, known.get(id)?.picture_url) });
    const rest = () => onChange({ [field]: state[field].filter((other) => other !== id) });
    if (!known.has(id)) learn(id, () => syncItems(state, onChange));
    return chip(`${word} ${titleOf(id)}`, rest, picture);
  };
  byId("likes").replaceChildren(
    ...state.likes.map((id) => entry("likes", id, "Like")),
    ...state.unlikes.map((id) => entry("unlikes", id, "Unlike")),
  );
}

async function learn(id, then) {
  try {
    remember(id, await item(id));
    if (byId("likes").children.length) then();
  } catch {
    known.set(id, {}); // withdrawn since the link was made: the id stands for it
  }
}
