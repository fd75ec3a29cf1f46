// The reader's pictures: read from a file, made small enough to send, kept for this tab so that Back and reload work.
// They leave the device only in a search request; nothing of them is in the address but a name.

const LONGEST_SIDE = 1600; // far above what an encoder looks at, even after a crop
const LARGEST_FILE = 2 * 2 ** 20;
const KEPT = 3;
const PREFIX = "picture:";
const READABLE = new Set(["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif"]);

const pictures = new Map(); // name -> { name, blob, bitmap }

/** Read a dropped, pasted or chosen file. Throws an Error with a sentence for the reader. */
export async function takePicture(file) {
  const bitmap = await decode(file);
  const fits = Math.max(bitmap.width, bitmap.height) <= LONGEST_SIDE && file.size <= LARGEST_FILE;
  const blob = fits && READABLE.has(file.type) ? file : await reduce(bitmap);
  const name = Date.now().toString(36) + Math.random().toString(36).slice(2, 6);
  pictures.set(name, { name, blob, bitmap });
  keep(name, blob).catch(() => {}); // storage full or switched off: only a reload loses the picture
  return name;
}

/** The picture of this name ({ name, blob, bitmap }), or null when this tab does not have it. */
export async function findPicture(name) {
  if (pictures.has(name)) return pictures.get(name);
  const blob = stored(name);
  if (!blob) return null;
  const picture = { name, blob, bitmap: await decode(blob) };
  pictures.set(name, picture);
  return picture;
}

/** The first picture among the files of a drop or a paste, or null. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}

async function decode(blob) {
  try {
    return await createImageBitmap(blob);
  } catch {
    throw new Error("This file is not a picture that can be read here. PNG, JPEG, WebP, GIF, BMP and AVIF can.");
  }
}

async function reduce(bitmap) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // the encoder, too, sees transparency on white
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
}

async function keep(name, blob) {
  const text = await new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(blob);
  });
  const names = Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX)).sort();
  for (const old of names.slice(0, Math.max(0, names.length - KEPT + 1))) sessionStorage.removeItem(old);
  sessionStorage.setItem(PREFIX + name, text);
}

function stored(name) {
  try {
    const text = sessionStorage.getItem(PREFIX + name);
    if (!text) return null;
    const [head, body] = text.split(",");
    const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    return new Blob([bytes], { type: head.slice(5).split(";")[0] });
  } catch {
    return null;
  }
}
