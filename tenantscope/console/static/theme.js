// Light or dark: what was chosen here before, else what the system has. Before anything is drawn, on every page.
document.documentElement.dataset.theme =
  localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
