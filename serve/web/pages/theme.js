// Sets the theme that was chosen before the page is drawn. Without a choice it is the system's.
{
  const chosen = (() => {
    try { return localStorage.getItem("carla-theme"); } catch { return null; } // storage may be forbidden
  })();
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
