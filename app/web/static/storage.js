// The browser's storage, which may be full or forbidden: what cannot be stored is remembered until the page is closed.

/** A text under a name, in localStorage or sessionStorage. */
export function stored(kind, name) {
  let own = null;
  let isOwn = false;
  return {
    /** The text or null, as other tabs have left it. */
    read() {
      try {
        if (!isOwn) return window[kind].getItem(name);
      } catch {
        // Forbidden: `own` is all there is.
      }
      return own;
    },
    /** Answers whether it is stored for good. */
    write(text) {
      own = text;
      try {
        if (text === null) window[kind].removeItem(name);
        else window[kind].setItem(name, text);
        isOwn = false;
      } catch {
        isOwn = true;
      }
      return !isOwn;
    },
    /** Call `listener` when another tab has changed it. */
    onChange(listener) {
      addEventListener("storage", ({ key }) => { if (key === name || key === null) listener(); });
    },
  };
}
