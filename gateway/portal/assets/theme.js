// Light or dark: as the system says, until somebody says otherwise. The server reads the choice from a cookie, so that no page flashes.
export function watchTheme(page) {
  page.querySelector("[data-theme-button]")?.addEventListener("click", () => {
    const root = page.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    page.cookie = `fleetgate-theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  });
}
