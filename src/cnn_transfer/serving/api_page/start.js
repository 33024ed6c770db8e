"use strict";
// Nothing is asked of another server: the validator would be one. The bundled Swagger UI refuses OpenAPI 3.1 by its
// number, and shows all that this service uses of it.
fetch("/openapi.json").then((answer) => answer.json()).then((spec) => {
  SwaggerUIBundle({
    spec: { ...spec, openapi: "3.0.3" }, dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true,
  });
});
