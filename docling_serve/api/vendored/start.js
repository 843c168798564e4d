// Opens the OpenAPI document of this server with the tool that the page has loaded. It is a file
// of its own because the pages run no script that is written in them.
const page = document.getElementById("page");
const { tool, document: url, redirect } = page.dataset;

const start = {
  swagger: () =>
    SwaggerUIBundle({
      url,
      dom_id: "#page",
      deepLinking: true,
      showExtensions: true,
      oauth2RedirectUrl: new URL(redirect, location.href).href,
    }),
  redoc: () => Redoc.init(url, {}, page),
  scalar: () =>
    Scalar.createApiReference(page, {
      url,
      telemetry: false,
      withDefaultFonts: false,
      hideClientButton: true,
      agent: { disabled: true },
    }),
};

start[tool]();
