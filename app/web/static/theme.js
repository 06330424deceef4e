// Runs before the first paint, so that a chosen theme never flashes in late.
try {
  const theme = localStorage.getItem("car-vae theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; then the system's theme holds.
}
