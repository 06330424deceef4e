// Runs first, and says so where the page's own scripts do not come: without them nothing else could.
addEventListener("error", ({ target }) => {
  if (!(target instanceof HTMLScriptElement) || !target.type) return;
  const again = document.createElement("button");
  again.textContent = "Retry";
  again.addEventListener("click", () => location.reload());
  const words = document.createElement("p");
  words.setAttribute("role", "alert");
  words.textContent = "A part of this page could not be loaded. Check the connection.";
  const place = document.getElementById("failure");
  place.replaceChildren(words, again);
  place.hidden = false;
  document.documentElement.removeAttribute("data-busy");
}, { capture: true });
