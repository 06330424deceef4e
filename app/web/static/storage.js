// The browser's storage, which may be full or forbidden: what cannot be stored is remembered until the page is closed.

/** read() and write(text or null) under a name, in localStorage or sessionStorage. */
export function stored(kind, name) {
  let text = null;
  try {
    text = window[kind].getItem(name);
  } catch {
    // Forbidden: begin with nothing.
  }
  return {
    read: () => text,
    write(next) {
      text = next;
      try {
        if (next === null) window[kind].removeItem(name);
        else window[kind].setItem(name, next);
      } catch {
        // Full or forbidden: `text` holds it.
      }
    },
  };
}
