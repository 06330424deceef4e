// Runs before the first paint, so that a chosen theme never flashes in late.
{
  const theme = (() => {
    try {
      return localStorage.getItem("car-vae theme");
    } catch {
      return null; // Storage may be forbidden; then the system's theme holds.
    }
  })();
  if (["light", "dark"].includes(theme)) {
    document.documentElement.dataset.theme = theme;
    // The frame of the browser follows, whichever the system's is.
    const colour = document.querySelector(`meta[name="theme-color"][media*="${theme}"]`).content;
    for (const meta of document.querySelectorAll('meta[name="theme-color"]')) meta.content = colour;
  }
}
