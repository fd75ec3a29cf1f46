// What a shopper opens among the results goes back to the server, so that releases can be judged by it. The page never
// waits for this, and whether it arrives is nobody's concern here.

/** Ids of answers that the server notes say so in their 13th digit; about others there is nothing to tell. */
const NOTED = /^[0-9a-f]{12}1/;

/** A hit was opened, here or in another tab, or followed to what is like it. */
export function clicked({ search_id: search, item_id: item }) {
  if (!NOTED.test(search ?? "")) return;
  const said = JSON.stringify({ search_id: search, item_id: item, event: "click" });
  try {
    navigator.sendBeacon("/v1/feedback", new Blob([said], { type: "application/json" })); // outlives the page
  } catch {
    // a browser without it, or one that forbids it
  }
}
