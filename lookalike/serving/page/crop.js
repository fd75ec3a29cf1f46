// Drawing a crop on the reader's picture with mouse, touch or keys. Boxes are fractions of the picture (left, top,
// width, height), so they do not depend on the size at which it is shown.

const SMALLEST = 0.05;
const STEP = 0.02;
const FIRST = Object.freeze({ left: 0.2, top: 0.2, width: 0.6, height: 0.6 });
const LONGEST_SIDE = 220; // CSS pixels on the page

const round = (value) => Math.round(value * 1000) / 1000;
const between = (low, value, high) => Math.min(high, Math.max(low, value));

/** A box of at least the smallest size that lies inside the picture. */
export function inside({ left, top, width, height }) {
  const w = between(SMALLEST, round(width), 1);
  const h = between(SMALLEST, round(height), 1);
  const l = between(0, round(left), round(1 - w));
  const t = between(0, round(top), round(1 - h));
  return { left: l, top: t, width: Math.min(w, round(1 - l)), height: Math.min(h, round(1 - t)) };
}

/** The box spanned by two corners, cut at the picture's edge. */
export function spanned(a, b) {
  const [x1, x2] = [a.x, b.x].map((x) => between(0, x, 1)).sort((p, q) => p - q);
  const [y1, y2] = [a.y, b.y].map((y) => between(0, y, 1)).sort((p, q) => p - q);
  return inside({ left: x1, top: y1, width: x2 - x1, height: y2 - y1 });
}

/** The box after an arrow key: moved, or with `resize` grown and shrunk at its right and lower edge. */
export function nudged(box, dx, dy, resize) {
  if (!resize) return inside({ ...box, left: box.left + dx, top: box.top + dy });
  const width = between(SMALLEST, box.width + dx, 1 - box.left);
  const height = between(SMALLEST, box.height + dy, 1 - box.top);
  return inside({ ...box, width, height });
}

const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/** The editor on the elements of index.html; `onChange(box | null)` is called when a crop is finished. */
export class CropEditor {
  #area; #canvas; #frame; #onChange; #box = null; #drag = null; #bitmap = null;

  constructor({ area, canvas, frame, onChange }) {
    this.#area = area;
    this.#canvas = canvas;
    this.#frame = frame;
    this.#onChange = onChange;
    area.addEventListener("pointerdown", (event) => this.#start(event));
    area.addEventListener("pointermove", (event) => this.#move(event));
    area.addEventListener("pointerup", (event) => this.#end(event));
    area.addEventListener("pointercancel", () => this.#cancel());
    area.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a picture with its crop (null: the whole picture). */
  show(bitmap, box) {
    if (bitmap !== this.#bitmap) this.#paint(bitmap);
    if (!this.#drag) this.#draw(box);
  }

  #paint(bitmap) {
    this.#bitmap = bitmap;
    const scale = LONGEST_SIDE / Math.max(bitmap.width, bitmap.height);
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const sharp = Math.min(2, window.devicePixelRatio || 1);
    this.#canvas.width = width * sharp;
    this.#canvas.height = height * sharp;
    this.#area.style.width = `${width}px`;
    this.#area.style.aspectRatio = `${width} / ${height}`;
    const pen = this.#canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, this.#canvas.width, this.#canvas.height);
  }

  #draw(box) {
    this.#box = box;
    this.#frame.hidden = !box;
    const said = box
      ? `left ${percent(box.left)}, top ${percent(box.top)}, width ${percent(box.width)}, height ${percent(box.height)}`
      : "whole picture";
    this.#area.setAttribute("aria-label", `Crop of your picture: ${said}`);
    if (!box) return;
    for (const side of ["left", "top", "width", "height"]) this.#frame.style[side] = `${box[side] * 100}%`;
  }

  #at(event) {
    const place = this.#area.getBoundingClientRect();
    return { x: (event.clientX - place.left) / place.width, y: (event.clientY - place.top) / place.height };
  }

  #start(event) {
    if (event.button !== 0 || this.#drag) return;
    const at = this.#at(event);
    this.#drag = { id: event.pointerId, before: this.#box, ...this.#grip(event.target, at) };
    this.#area.setPointerCapture(event.pointerId);
    this.#area.focus({ preventScroll: true });
    event.preventDefault();
  }

  /** What the pointer took hold of: a corner (the opposite one stays), the box (it moves), or the empty picture. */
  #grip(target, at) {
    const box = this.#box;
    if (box && target.dataset.corner) {
      const [vertical, horizontal] = target.dataset.corner;
      const anchor = {
        x: horizontal === "w" ? box.left + box.width : box.left,
        y: vertical === "n" ? box.top + box.height : box.top,
      };
      return { kind: "span", anchor };
    }
    if (box && target === this.#frame) return { kind: "move", from: at };
    return { kind: "span", anchor: at, fresh: at };
  }

  #move(event) {
    if (this.#drag?.id !== event.pointerId) return;
    const at = this.#at(event);
    const { kind, anchor, from, fresh, before } = this.#drag;
    if (kind === "move") {
      this.#draw(nudged(before, at.x - from.x, at.y - from.y, false));
    } else if (!fresh || Math.hypot(at.x - fresh.x, at.y - fresh.y) > SMALLEST) {
      this.#draw(spanned(anchor, at)); // a mere tap, with its tremble, is not a new crop
    }
  }

  #end(event) {
    if (this.#drag?.id !== event.pointerId) return;
    const { before } = this.#drag;
    this.#drag = null;
    if (this.#box !== before) this.#onChange(this.#box);
  }

  #cancel() {
    if (!this.#drag) return;
    const { before } = this.#drag;
    this.#drag = null;
    this.#draw(before);
  }

  #key(event) {
    if (event.key === "Delete" || event.key === "Backspace") return this.#set(null, event);
    const arrow = ARROWS[event.key];
    if (!arrow || event.altKey || event.ctrlKey || event.metaKey) return undefined;
    const [dx, dy] = arrow;
    return this.#set(this.#box ? nudged(this.#box, dx, dy, event.shiftKey) : { ...FIRST }, event);
  }

  #set(box, event) {
    event.preventDefault();
    this.#draw(box);
    this.#onChange(box);
  }
}

const percent = (fraction) => `${Math.round(fraction * 100)} %`;
