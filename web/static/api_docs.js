// Shows the OpenAPI document. Nothing is fetched but the document, from here.
const shown = document.getElementById("documentation");
const dark = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

followScheme();
dark.addEventListener("change", followScheme);
SwaggerUIBundle({
  url: shown.dataset.document,
  domNode: shown,
  deepLinking: true,
  validatorUrl: null, // or a page that is not on localhost would send the document's address to another site
  presets: [SwaggerUIBundle.presets.apis],
});
