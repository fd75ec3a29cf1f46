// Building page elements from data. Every text goes through textContent and every address through a check, because
// titles, tags and links come from catalogues that strangers wrote.

/** Make an element: el("a", { className: "x", href: "/" }, "text", child). Unknown keys become attributes. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A web address that is safe to link to, or null: nothing but http and https. */
export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/** A link that leaves the page when the address is good, else the plain text. */
export function outLink(text, address, label) {
  const href = webAddress(address);
  if (!href) return el("span", {}, text);
  return el("a", { href, target: "_blank", rel: "noopener noreferrer", "aria-label": label }, text);
}

/** Price in the reader's own notation; an unknown currency code is printed as it is. */
export function money(amount, currency) {
  try {
    return new Intl.NumberFormat(undefined, { style: "currency", currency: currency ?? "" }).format(amount);
  } catch {
    return [amount.toFixed(2), currency].filter(Boolean).join(" ");
  }
}

/** "food-fruit" as words. */
export const words = (slug) => String(slug).replaceAll(/[-_]+/g, " ").trim();

/** 8113 as the reader writes it. */
export const count = (number) => new Intl.NumberFormat().format(number);

/** Call `action` once, `wait` milliseconds after the last call; `.now()` calls it at once, `.cancel()` never. */
export function debounce(action, wait) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait);
  };
  later.cancel = () => clearTimeout(timer);
  later.now = (...values) => {
    clearTimeout(timer);
    action(...values);
  };
  return later;
}
