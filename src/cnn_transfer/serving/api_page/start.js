"use strict";
// Nothing is asked of another server: the validator would be one.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true });
