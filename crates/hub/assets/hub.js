// Keeps the page fresh in place. Without it the page is whole, and as old as it is.
"use strict";
setInterval(async () => {
  const main = document.getElementById("main");
  const busy = main.contains(document.activeElement) || String(getSelection()) !== "";
  if (document.hidden || busy) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = fresh.getElementById("main");
    if (next && next.innerHTML !== main.innerHTML) main.replaceWith(next);
    document.title = fresh.title;
  } catch {
    // The hub is away: what is shown stays, and the next turn tries again.
  }
}, 5000);
