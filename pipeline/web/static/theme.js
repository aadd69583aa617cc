// Runs before the first paint, so that a chosen theme never flashes; without a choice the system's holds.
try {
  const chosen = localStorage.getItem("footfall.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is forbidden here: the system's theme it is.
}
